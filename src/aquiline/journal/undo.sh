# Usage: sh @NAME@ [--list] [--dry-run] [--force] [--only N]...
#
#   --list      name the steps, newest first, and do nothing
#   --dry-run   say what would be done, and do nothing
#   --force     restore also what somebody changed since, and undo commands that may not have run
#   --only N    take back step N and nothing else; may be given several times
#
# Needs a POSIX shell, coreutils, grep and sed (awk too, for entries of account databases) and the folder this file lies
# in; not aquiline, not Python, no network.
# It may be run at any time, also right after a crash, and again where it was interrupted.
# The folder may be moved as a whole. AQUILINE_ROOT names another root directory than the one of the run.
#
# EXIT STATUS: 0 all is as before the run; 12 something was changed since and was left alone; 1 something could not be
# done; 2 usage.
#
# What follows up to the first "#chunk" line is the program. Each chunk is what one batch of the run added, before it
# changed anything. The program runs whole chunks only: one whose digest in its "#end" line is right.

LC_ALL=C
export LC_ALL
unset CDPATH
umask 077

aq_run=@RUN@
@ROOT@
AQ_ROOT=${AQUILINE_ROOT-$AQ_ROOT}
AQ_ROOT=${AQ_ROOT%/}
aq_path=@PATH@
aq_only='' aq_dry='' aq_force='' aq_list=''
aq_conflicts=0 aq_failures=0 aq_reversed='' aq_after='' aq_times='' aq_doubtful='' aq_halfway='' aq_seen_keys=''
aq_n=0 aq_top=''

aq_say() { printf '%s\n' "$*"; }

aq_fail() {
    aq_failures=$((aq_failures + 1))
    printf 'step %s: could not: %s\n' "$aq_n" "$*" >&2
}

aq_conflict() {
    aq_conflicts=$((aq_conflicts + 1))
    printf 'step %s: conflict: %s\n' "$aq_n" "$*" >&2
}

# ---- what stands there ----

# aq_sha FILE: sets aq_digest.
aq_sha() {
    aq_digest=$(sha256sum <"$1") && aq_digest=${aq_digest%% *}
}

# aq_look TARGET: sets aq_seen to what stands there, in the words of the guards.
aq_look() {
    if [ -L "$1" ]; then
        aq_seen="symlink $(stat -c '%u %g' -- "$1") $(readlink -n -- "$1" | sha256sum)"
        aq_seen=${aq_seen%  -}
    elif [ ! -e "$1" ]; then
        aq_seen=absent
    elif [ -f "$1" ]; then
        aq_sha "$1" || aq_digest=unreadable
        aq_seen="file $(stat -c '%f %u %g' -- "$1") $aq_digest"
    elif [ -d "$1" ]; then
        aq_seen="directory $(stat -c '%f %u %g' -- "$1")"
    else
        aq_seen="special $(stat -c '%f %u %g %t %T' -- "$1")"
    fi
}

# aq_reach PATH: sets aq_t to where PATH is; fails where its directory lies outside the root.
aq_reach() {
    aq_t=$AQ_ROOT$1
    aq_dir=${aq_t%/*}
    [ -n "$AQ_ROOT" ] || return 0
    [ -d "$aq_dir" ] || return 0
    aq_real=$(cd -P -- "$aq_dir/" && pwd -P) || return 1
    [ -n "$aq_top" ] || aq_top=$(cd -P -- "$AQ_ROOT/" && pwd -P) || return 1
    case $aq_real/ in "$aq_top"/*) return 0 ;; esac
    return 1
}

# aq_guard PATH LEFT WAS: compares what stands at PATH with what the run left and with what was there before.
aq_guard() {
    if ! aq_reach "$1"; then
        aq_unsafe=1
        aq_fail "a parent directory of $1 leads out of $AQ_ROOT"
        return 0
    fi
    aq_tmp=${aq_dir:-}/.aq-$aq_run-$aq_n
    if [ -z "$aq_dry" ] && { [ -L "$aq_tmp" ] || [ -e "$aq_tmp" ]; }; then
        if [ -d "$aq_tmp" ] && [ ! -L "$aq_tmp" ]; then rmdir -- "$aq_tmp"; else rm -f -- "$aq_tmp"; fi
    fi
    aq_look "$aq_t"
    if [ "$aq_seen" = "$2" ] || aq_is_halfway "$2" "$3"; then
        aq_left=1
    elif [ "$aq_seen" != "$3" ]; then
        aq_changed=1
        aq_what="$1 was changed since: found $aq_seen, expected $2"
    fi
}

# aq_is_halfway LEFT WAS: whether aq_seen is what a crash leaves of a step that changes an object in more than one call:
# owner and group each as they were or are to become, no mode bit that is in neither. Such a step is taken back even
# where all is as it was: attributes and time cannot be seen. Of the content the digest cannot tell: it may be torn.
aq_is_halfway() {
    case " $aq_halfway " in *" $aq_n "*) ;; *) return 1 ;; esac
    [ "$aq_seen" != "$2" ] || return 0
    case $aq_seen$1$2 in *absent* | *symlink* | *-*) return 1 ;; esac
    aq_other=$2
    # shellcheck disable=SC2086 # type, mode, owner, group and more: words that hold nothing a shell expands
    set -- $1
    aq_type=$1 aq_bits=$2 aq_uids=" $3 " aq_gids=" $4 "
    # shellcheck disable=SC2086
    set -- $aq_other
    aq_bits=$((0x$aq_bits | 0x$2)) aq_uids="$aq_uids$3 " aq_gids="$aq_gids$4 "
    # shellcheck disable=SC2086
    set -- $aq_seen
    case "$1 $aq_uids|$aq_gids" in "$aq_type"*" $3 "*"|"*" $4 "*) ;; *) return 1 ;; esac
    [ $((0x$2 & ~aq_bits)) = 0 ]
}

# aq_decide [DESCRIPTION]: whether to go on with this step.
aq_decide() {
    if [ -n "$aq_unsafe" ]; then return 1; fi
    if [ -n "$aq_changed" ]; then
        if [ -z "$aq_force" ]; then
            aq_conflict "$aq_what"
            return 1
        fi
    elif [ -z "$aq_left" ]; then
        aq_say "step $aq_n: already as before: $aq_description"
        return 1
    fi
    aq_go
}

# aq_go: says what is done; fails in a dry-run.
aq_go() {
    if [ -n "$aq_dry" ]; then
        aq_say "step $aq_n: would: $aq_description"
        return 1
    fi
    aq_say "step $aq_n: $aq_description"
}

# aq_begin N DESCRIPTION
aq_begin() {
    aq_n=$1 aq_description=$2 aq_left='' aq_changed='' aq_unsafe='' aq_what='' aq_links=0
}

# aq_command_decide PROBE: whether to take back a command. PROBE is a function that says whether it was done, or empty.
aq_command_decide() {
    if [ -f "$aq_done" ] && grep -qx "$aq_n" "$aq_done" && [ -z "$aq_force" ]; then
        aq_say "step $aq_n: already taken back: $aq_description"
        return 1
    fi
    case " $aq_doubtful " in
    *" $aq_n "*)
        if [ -n "$1" ]; then
            if ! "$1"; then
                aq_say "step $aq_n: it was not done: $aq_description"
                return 1
            fi
        elif [ -z "$aq_force" ]; then
            aq_conflict "it may not have run; --force takes it back all the same: $aq_description"
            return 1
        fi
        ;;
    esac
    aq_go
}

# aq_taken_back: remembers that a command was taken back, which cannot be seen on the host.
aq_taken_back() { printf '%s\n' "$aq_n" >>"$aq_done"; }

# aq_once KEY: whether a reaction is still to be run.
aq_once() {
    case " $aq_seen_keys " in *" $1 "*) return 1 ;; esac
    aq_seen_keys="$aq_seen_keys $1"
    aq_go
}

# ---- putting back ----

# MTIME is empty where it is left. SHELL is an object in attributes/ that carries ACLs and other attributes, empty
# where there are none. KEPT is where the inode was kept as one more name, empty where it had one name only.

# aq_was PATH MODE: sets aq_mode, aq_uid and aq_gid to those of the object there, else to MODE and root.
aq_was() {
    aq_mode=$2 aq_uid=0 aq_gid=0
    aq_reach "$1" || return 0
    [ -e "$aq_t" ] && [ ! -L "$aq_t" ] || return 0
    aq_mode=$(stat -c %a -- "$aq_t") aq_uid=$(stat -c %u -- "$aq_t") aq_gid=$(stat -c %g -- "$aq_t")
}

# aq_dress TARGET MODE UID GID MTIME SHELL
aq_dress() {
    chown -h "$3:$4" -- "$1" || return 1
    if [ -n "$6" ]; then
        # -r lets it work on directories; the shell object is empty.
        cp -r -T --attributes-only --preserve=all -- "$AQ_STATE/attributes/$6" "$1" || return 1
    fi
    # Five digits: with fewer, chmod keeps the setuid and setgid bits of a directory.
    chmod "00$2" -- "$1" || return 1
    [ -z "$5" ] || touch -c -d "$5" -- "$1"
}

# aq_stage PATH: sets aq_t and aq_tmp, where the new object is to be built.
aq_stage() {
    aq_reach "$1" || { aq_fail "a parent directory of $1 leads out of $AQ_ROOT"; return 1; }
    aq_tmp=$aq_dir/.aq-$aq_run-$aq_n
    rm -f -- "$aq_tmp"
}

# aq_publish PATH: moves what was staged to its place.
aq_publish() {
    if [ -d "$aq_t" ] && [ ! -L "$aq_t" ] && ! rmdir -- "$aq_t"; then
        aq_drop "$1: a directory that is not empty is in the way"
        return 1
    fi
    mv -f -T -- "$aq_tmp" "$aq_t" 2>/dev/null && return 0
    # A link that leads to its own place is "the same file" to mv.
    if [ -L "$aq_tmp" ] && rm -f -- "$aq_t" && mv -f -T -- "$aq_tmp" "$aq_t"; then return 0; fi
    # A mount point cannot be replaced by rename: its content is overwritten.
    if [ -f "$aq_tmp" ] && [ ! -L "$aq_tmp" ] && [ -f "$aq_t" ] && [ ! -L "$aq_t" ]; then
        cat <"$aq_tmp" >"$aq_t" && cp -T --attributes-only --preserve=all -- "$aq_tmp" "$aq_t" && rm -f -- "$aq_tmp" && return 0
    fi
    aq_drop "$1"
    return 1
}

aq_drop() {
    if [ -d "$aq_tmp" ] && [ ! -L "$aq_tmp" ]; then rmdir -- "$aq_tmp"; else rm -f -- "$aq_tmp"; fi
    aq_fail "$1"
}

# aq_place PATH MODE UID GID MTIME SHELL: dresses what was staged and moves it to its place.
aq_place() {
    aq_dress "$aq_tmp" "$2" "$3" "$4" "$5" "$6" || { aq_drop "$1: owner, mode or attributes"; return 1; }
    aq_publish "$1"
}

# aq_stored SHA256: sets aq_from to the pre-image of this digest; fails where it is lost or damaged.
aq_stored() {
    aq_from=$AQ_STATE/preimages/$(printf %.2s "$1")/$1
    [ -f "$aq_from" ] && aq_sha "$aq_from" && [ "$aq_digest" = "$1" ] && return 0
    aq_fail "the pre-image $1 is lost or damaged"
    return 1
}

# aq_file PATH SHA256 KEPT SAME MODE UID GID MTIME SHELL: puts a regular file back.
# SAME: "1" where the run left the inode that was there, and its content; "strip" where it also gave it attributes that
# must go: coreutils can take none away, so the file is copied without any.
aq_file() {
    aq_stage "$1" || return 1
    if [ "$4" = strip ] && aq_has_content "$2" 1; then
        cp -T -- "$aq_t" "$aq_tmp" || { aq_drop "$1: copying it"; return 1; }
        aq_place "$1" "$5" "$6" "$7" "$8" "$9"
        return
    fi
    aq_is_kept=''
    if [ -n "$3" ] && [ -f "$3" ]; then
        # A link that leads to the kept inode is no name of it, though -ef says so.
        if [ -L "$aq_t" ] || [ ! "$3" -ef "$aq_t" ]; then
            ln -- "$3" "$aq_tmp" || { aq_fail "$1: its kept inode"; return 1; }
            aq_place "$1" "$5" "$6" "$7" "$8" "$9"
            return
        fi
        aq_is_kept=1
    fi
    if aq_has_content "$2" "$4$aq_is_kept"; then
        aq_dress "$aq_t" "$5" "$6" "$7" "$8" "$9" || { aq_fail "$1: owner, mode or attributes"; return 1; }
        return 0
    fi
    aq_stored "$2" || return 1
    if [ -n "$aq_is_kept" ]; then
        cat <"$aq_from" >"$aq_t" && aq_dress "$aq_t" "$5" "$6" "$7" "$8" "$9" && return 0
        aq_fail "$1"
        return 1
    fi
    cp -T -- "$aq_from" "$aq_tmp" || { aq_drop "$1: copying its pre-image"; return 1; }
    aq_place "$1" "$5" "$6" "$7" "$8" "$9"
}

# aq_has_content SHA256 SAME: whether the file at aq_t has this content, in an inode that may stay.
aq_has_content() {
    [ ! -L "$aq_t" ] && [ -f "$aq_t" ] || return 1
    [ -n "$2" ] || [ "$(stat -c %h -- "$aq_t")" = 1 ] || return 1
    aq_sha "$aq_t" && [ "$aq_digest" = "$1" ]
}

# aq_strip PATH NAME...: takes attributes away that the run gave to what stays in its place; coreutils cannot.
aq_strip() {
    aq_reach "$1" || return 1
    aq_stripped=$1
    shift
    for aq_name; do
        if command -v setfattr >/dev/null 2>&1; then
            setfattr -h -x "$aq_name" -- "$aq_t" || aq_fail "$aq_stripped: its attribute $aq_name stays"
        else
            aq_fail "$aq_stripped: its attribute $aq_name stays: no setfattr here"
        fi
    done
}

# aq_directory PATH MODE UID GID MTIME SHELL
aq_directory() {
    aq_stage "$1" || return 1
    if [ -d "$aq_t" ] && [ ! -L "$aq_t" ]; then
        aq_dress "$aq_t" "$2" "$3" "$4" "$5" "$6" || { aq_fail "$1: owner, mode or attributes"; return 1; }
        return 0
    fi
    mkdir -- "$aq_tmp" || { aq_fail "$1"; return 1; }
    if [ -L "$aq_t" ] || [ -e "$aq_t" ]; then rm -f -- "$aq_t"; fi
    aq_place "$@"
}

# aq_symlink PATH TARGET UID GID MTIME SHELL
aq_symlink() {
    aq_stage "$1" || return 1
    if [ -n "$6" ]; then
        cp -P -T --preserve=all -- "$AQ_STATE/attributes/$6" "$aq_tmp" || { aq_drop "$1: its attributes"; return 1; }
    else
        ln -s -T -- "$2" "$aq_tmp" || { aq_fail "$1"; return 1; }
    fi
    chown -h "$3:$4" -- "$aq_tmp" || { aq_drop "$1: owner"; return 1; }
    [ -z "$5" ] || touch -h -c -d "$5" -- "$aq_tmp" || { aq_drop "$1: time"; return 1; }
    aq_publish "$1"
}

# aq_special PATH p|b|c MAJOR MINOR MODE UID GID MTIME SHELL
aq_special() {
    aq_stage "$1" || return 1
    if [ "$2" = p ]; then
        mkfifo -- "$aq_tmp" || { aq_fail "$1"; return 1; }
    else
        mknod -- "$aq_tmp" "$2" "$3" "$4" || { aq_fail "$1"; return 1; }
    fi
    aq_place "$1" "$5" "$6" "$7" "$8" "$9"
}

# aq_absent PATH
aq_absent() {
    aq_reach "$1" || { aq_fail "a parent directory of $1 leads out of $AQ_ROOT"; return 1; }
    if [ -d "$aq_t" ] && [ ! -L "$aq_t" ]; then
        # What else is in it was put there by others.
        rmdir -- "$aq_t" || { aq_conflict "$1: the directory is not empty"; return 1; }
    else
        rm -f -- "$aq_t" || { aq_fail "$1"; return 1; }
    fi
}

# aq_move SOURCE DESTINATION
aq_move() {
    aq_reach "$2" || { aq_fail "a parent directory of $2 leads out of $AQ_ROOT"; return 1; }
    aq_to=$aq_t
    aq_reach "$1" || { aq_fail "a parent directory of $1 leads out of $AQ_ROOT"; return 1; }
    mv -f -T -- "$aq_t" "$aq_to" || { aq_fail "moving $1 back to $2"; return 1; }
}

# aq_link PATH EXISTING
aq_link() {
    aq_reach "$2" || { aq_fail "a parent directory of $2 leads out of $AQ_ROOT"; return 1; }
    aq_to=$aq_t
    aq_stage "$1" || return 1
    ln -- "$aq_to" "$aq_tmp" || { aq_fail "$1"; return 1; }
    aq_publish "$1"
}

# aq_time PATH MTIME: of a parent directory, once all that is in it is back.
aq_time() {
    aq_reach "$1" || return 0
    if [ -d "$aq_t" ] && [ ! -L "$aq_t" ]; then touch -c -d "$2" -- "$aq_t"; fi
}

# ---- account databases ----

# PATTERN is a basic regular expression for the beginning of an entry's line: ^NAME: with what is special escaped. The
# lock of the C library, which aquiline itself takes, is out of a shell's reach; FILE.lock is what useradd, passwd and
# vipw wait for besides. Of the entries nothing is said: they hold password hashes.
#
# A step that is nothing but an entry waits until all such steps that follow each other are known (aq_each). Then each
# database is read once, its entries are looked at and changed one after the other, and it is replaced once: a process
# for each of thousands of entries would take minutes.

# aq_record_guard PATH PATTERN LEFT WAS: as aq_guard, for an entry; LEFT and WAS are empty where there was none.
aq_record_guard() {
    if ! aq_reach "$1"; then
        aq_unsafe=1
        aq_fail "a parent directory of $1 leads out of $AQ_ROOT"
        return 0
    fi
    aq_seen=''
    [ ! -f "$aq_t" ] || [ -L "$aq_t" ] || aq_seen=$(grep -- "$2" "$aq_t" | head -n 1)
    if [ "$aq_seen" = "$3" ]; then
        aq_left=1
    elif [ "$aq_seen" != "$4" ]; then
        aq_changed=1
        aq_what="the entry ${2#^} in $1 was changed since"
    fi
}

# aq_record PATH PATTERN LINE AFTER BELOW UNENDED: sets the entry, or removes it where LINE is empty. A new one goes
# below the entry that AFTER is a pattern of (empty: at the top; -: below all others), BELOW lines that are none between.
aq_record() { aq_edit "${1##*/}" said aq_one_edit "$@"; }

# aq_edit DATABASES SAID COMMAND...: COMMAND prints edits of these databases; SAID is empty where each is still to be said.
aq_edit() {
    { aq_counts=$(aq_edit_all "$@" 3>&1 >&4); } 4>&1
    case $aq_counts in
    *' '*) aq_conflicts=$((aq_conflicts + ${aq_counts% *})) aq_failures=$((aq_failures + ${aq_counts#* })) ;;
    *) aq_fail "the entries of $1" ;;
    esac
}

# An edit is eleven lines: the step's number and description; 1 where it is guarded, LEFT and WAS; the words of aq_record.
# After the last one comes "end". No name or entry has a line end in it.
aq_one_edit() { printf '%s\n' "$aq_n" "$aq_description" '' '' '' "$@" end; }

# aq_queue N...: prints the edits of these steps.
aq_queue() {
    # Only here, below a pipe: what the functions of these steps call says what it is called with.
    aq_begin() { printf '%s\n' "$1" "$2"; }
    aq_record_guard() { printf '%s\n' 1 "$3" "$4"; }
    aq_decide() { :; }
    aq_go() { printf '\n\n\n'; }
    aq_record() { printf '%s\n' "$@"; }
    for aq_number; do "u_$aq_number"; done
    echo end
}

# aq_edit_all DATABASES SAID COMMAND...: prints to 3 how many conflicts and failures there are, to 4 what is done.
aq_edit_all() {
    aq_conflicts=0 aq_failures=0 aq_edited=$1
    for aq_database in $aq_edited; do aq_edit_open "$aq_database"; done
    export "AQ_SAID=$2" "AQ_DRY=$aq_dry" "AQ_FORCE=$aq_force"
    shift 2
    aq_done_edits=$("$@" | aq_edit_lines)
    case $aq_done_edits in
    'edited '*) ;;
    *) aq_fail "the entries of $aq_edited: awk"; aq_done_edits='edited 0 0 ' ;;
    esac
    # shellcheck disable=SC2086 # words that hold nothing a shell expands
    set -- $aq_done_edits
    aq_conflicts=$((aq_conflicts + $2)) aq_failures=$((aq_failures + $3))
    for aq_database in $aq_edited; do aq_edit_close "$aq_database" " $aq_done_edits "; done
    echo "$aq_conflicts $aq_failures" >&3
}

# aq_edit_open DATABASE: locks it, and stages a file like it; says to aq_edit_lines where, or why not.
aq_edit_open() {
    aq_why='' aq_locked='' aq_unsafe='' aq_tmp=''
    if ! aq_reach "/etc/$1"; then
        aq_unsafe=1 aq_why="a parent directory of /etc/$1 leads out of $AQ_ROOT" aq_t=''
    elif [ ! -f "$aq_t" ] || [ -L "$aq_t" ]; then
        aq_why="/etc/$1: there is no such account database" aq_t=''
    elif [ -z "$aq_dry" ]; then
        aq_tmp=$aq_dir/.aq-$aq_run-$1
        # What a crash left of the program or of this.
        rm -f -- "$aq_dir/.aq-accounts" "$aq_tmp"
        if aq_record_lock "$1"; then
            cp -T --attributes-only --preserve=all -- "$aq_t" "$aq_tmp" || aq_why="/etc/$1: copying its attributes"
        fi
    fi
    aq_open=''
    [ -z "$aq_t" ] || aq_open=$(tail -c 1 -- "$aq_t")
    export "AQ_AT_$1=$aq_t" "AQ_TO_$1=$aq_tmp" "AQ_WHY_$1=$aq_why" "AQ_UNSAFE_$1=$aq_unsafe" "AQ_OPEN_$1=${aq_open:+1}"
    eval "aq_lock_$1=\$aq_locked"
}

# aq_edit_close DATABASE EDITED: moves it to its place if it is among what was edited, and lets go of it.
aq_edit_close() {
    eval "aq_t=\$AQ_AT_$1 aq_tmp=\$AQ_TO_$1 aq_lock=\$aq_lock_$1"
    case $2 in
    *" $1 "*)
        aq_size=${2#*" $1 "}
        if [ "$(stat -c %s -- "$aq_tmp")" = "${aq_size%% *}" ]; then
            touch -- "$aq_tmp"
            aq_publish "/etc/$1"
        else
            aq_drop "/etc/$1: writing it"
        fi
        ;;
    *) [ -z "$aq_tmp" ] || rm -f -- "$aq_tmp" ;;
    esac
    [ -z "$aq_lock" ] || rm -f -- "$aq_lock"
}

# aq_record_lock DATABASE: takes FILE.lock, which holds the number of a process; that of one that has ended counts not.
aq_record_lock() {
    printf '%s' "$$" >"$aq_t.aq-$$" || { aq_why="/etc/$1: its lock"; return 1; }
    if ! ln -- "$aq_t.aq-$$" "$aq_t.lock" 2>/dev/null; then
        aq_owner=$(tr -dc 0-9 <"$aq_t.lock")
        if [ -z "$aq_owner" ] || kill -0 "$aq_owner" 2>/dev/null || ! mv -f -T -- "$aq_t.aq-$$" "$aq_t.lock"; then
            rm -f -- "$aq_t.aq-$$"
            aq_why="/etc/$1 is locked by process ${aq_owner:-unknown}: $aq_t.lock"
            return 1
        fi
    fi
    rm -f -- "$aq_t.aq-$$"
    aq_locked=$aq_t.lock
}

# aq_edit_lines: makes the edits that it reads; writes the databases that change, and prints
# "edited CONFLICTS FAILURES" with name and size of each of them. Lines are a chain, so that an edit costs the same
# whatever the number of lines; the last line is what follows the last line end, as a rule nothing.
aq_edit_lines() {
    awk '
function told(text) { printf "step %s: %s\n", number, text | "cat >&4" }
function failed(text) { failures++; printf "step %s: could not: %s\n", number, text | "cat >&2" }
function name_of(line,    colon) {
    colon = index(line, ":")
    return colon && line !~ /^[-+#]/ ? substr(line, 1, colon - 1) : ""
}
# The name of a range of sub-ids, by its first number too: an account may have several.
function range_of(line,    rest) {
    rest = substr(line, length(name_of(line)) + 2)
    return name_of(line) ":" (index(rest, ":") ? substr(rest, 1, index(rest, ":") - 1) : rest)
}
# The first line of this name, 0 where there is none.
function line_of(d, name) { return (d, name) in entry ? entry[d, name] : 0 }
# The name in a pattern.
function meant(pattern,    plain, at) {
    pattern = substr(pattern, 2, length(pattern) - 2)
    while (at = index(pattern, "\\")) {
        plain = plain substr(pattern, 1, at - 1) substr(pattern, at + 1, 1)
        pattern = substr(pattern, at + 2)
    }
    return plain pattern
}
# Adds a line above the line BELOW, 0 at the end.
function insert(d, line, below,    one, above) {
    one = ++lines
    text[one] = line
    above = below ? previous[below] : last[d]
    previous[one] = above; following[one] = below
    if (above) following[above] = one; else first[d] = one
    if (below) previous[below] = one; else last[d] = one
    return one
}
function take_out(d, one,    above, below) {
    above = previous[one]; below = following[one]
    if (above) following[above] = below; else first[d] = below
    if (below) previous[below] = above; else last[d] = above
    delete text[one]
}
function note(d, name, one) { if (line_of(d, name)) several[d, name] = 1; else entry[d, name] = one }
# Forgets the names of a line, which another line may have too.
function forget(d, line,    name, one) {
    name = name_of(line)
    delete entry[d, name]; delete entry[d, range_of(line)]
    if (!((d, name) in several)) return
    for (one = first[d]; one; one = following[one]) if (name_of(text[one]) == name) { entry[d, name] = one; return }
}
function load(d,    file, line, one, name) {
    loaded[d] = 1
    file = ENVIRON["AQ_AT_" d]
    while (file != "" && (getline line < file) > 0) {
        one = insert(d, line, 0)
        name = name_of(line)
        if (name != "") { note(d, name, one); note(d, range_of(line), one) }
        if (line ~ /^[-+]/) has_nis[d] = 1
    }
    if (file != "") close(file)
    if (ENVIRON["AQ_OPEN_" d] == "") insert(d, "", 0)
}
function end_last_line(d) { if (text[last[d]] != "") insert(d, "", 0) }
# The line above which a new entry goes: where it is said to stand, else before the lines of NIS, else below all others.
function place(d, after, below,    anchor, one) {
    anchor = after == "" || after == "-" ? 0 : line_of(d, meant(after))
    if (!anchor && after != "") {
        if (has_nis[d]) for (one = first[d]; one; one = following[one]) if (text[one] ~ /^[-+]/) return one
        end_last_line(d)
        return last[d]
    }
    for (one = anchor ? following[anchor] : first[d]; one && below > 0; one = following[one]) {
        if (name_of(text[one]) != "" || (text[one] == "" && one == last[d])) break
        below--
    }
    if (one) return one
    end_last_line(d)
    return last[d]
}
function edit(d, name, line, after, below, unended,    old, one, is_last, was_line) {
    old = line_of(d, name)
    if (!old && line == "") return
    changed[d] = 1
    if (old && line != "") {
        delete entry[d, range_of(text[old])]
        entry[d, range_of(line)] = old
        text[old] = line
        return
    }
    if (old) {
        one = following[old]
        was_line = text[old]
        take_out(d, old)
        forget(d, was_line)
        # It had no end, the line above has one.
        if (!one) one = insert(d, "", 0)
        is_last = one == last[d]
    } else {
        one = place(d, after, below)
        old = insert(d, line, one)
        entry[d, range_of(line)] = old
        if (!line_of(d, name_of(line))) entry[d, name_of(line)] = old
        is_last = one == last[d]
    }
    if (is_last && unended && text[last[d]] == "" && first[d] != last[d]) take_out(d, last[d])
}
function decide(d, path, name,    seen) {
    if (ENVIRON["AQ_UNSAFE_" d]) { failed(ENVIRON["AQ_WHY_" d]); return 0 }
    if (guarded) {
        if ((d, name) in several) { failed("there are several entries of " name " in " path); return 0 }
        seen = line_of(d, name) ? text[entry[d, name]] : ""
        if (seen != left && seen == was) { told("already as before: " description); return 0 }
        if (seen != left && !ENVIRON["AQ_FORCE"]) {
            conflicts++
            printf "step %s: conflict: the entry %s: in %s was changed since\n", number, name, path | "cat >&2"
            return 0
        }
    }
    if (ENVIRON["AQ_DRY"]) told("would: " description)
    else if (!ENVIRON["AQ_SAID"]) told(description)
    if (ENVIRON["AQ_WHY_" d] == "") return 1
    if (!ENVIRON["AQ_DRY"]) failed(ENVIRON["AQ_WHY_" d])
    return 0
}
function write(d,    file, one, piece, size) {
    file = ENVIRON["AQ_TO_" d]
    for (one = first[d]; one; one = following[one]) {
        piece = one == last[d] ? text[one] : text[one] "\n"
        size += length(piece)
        printf "%s", piece > file
    }
    if (size && close(file)) size = -1
    summary = summary " " d " " (size + 0)
}
BEGIN {
    while ((getline number) > 0 && number != "end") {
        getline description; getline guarded; getline left; getline was
        getline path; getline pattern; getline line; getline after; getline below; getline unended
        d = path; sub(/.*\//, "", d)
        if (!(d in loaded)) load(d)
        name = meant(pattern)
        if (decide(d, path, name)) edit(d, name, line, after, below + 0, unended)
    }
    if (number == "end") {
        if (!ENVIRON["AQ_DRY"]) for (d in changed) write(d)
        close("cat >&4"); close("cat >&2")
        print "edited " conflicts + 0 " " failures + 0 summary " "
    }
}'
}

# ---- commands ----

# aq_exec TIMEOUT [NAME=VALUE...] ARGV...: runs a command in the fixed environment, below the root.
aq_exec() {
    aq_limit=$1
    shift
    # The environment is cleared outside of the root, which may have no env: chroot goes between settings and program.
    aq_words=$# aq_inside=$AQ_ROOT
    while [ -n "$AQ_ROOT" ] && [ "$aq_words" -gt 0 ]; do
        if [ -n "$aq_inside" ]; then
            case $1 in *=*) ;; *) set -- "$@" chroot "$AQ_ROOT"; aq_inside='' ;; esac
        fi
        set -- "$@" "$1"
        shift
        aq_words=$((aq_words - 1))
    done
    set -- env -i PATH="$aq_path" HOME=/ LC_ALL=C "$@"
    [ "$aq_limit" = 0 ] || set -- timeout "$aq_limit" "$@"
    (cd / && PATH="$aq_path" && export PATH && exec "$@")
}

# aq_check STATUS WHAT ACCEPTED...: whether a command ended as it should.
aq_check() {
    aq_status=$1 aq_what=$2
    shift 2
    for aq_accepted; do
        [ "$aq_status" != "$aq_accepted" ] || return 0
    done
    aq_fail "$aq_what: exit status $aq_status"
    return 1
}

# aq_running: whether there is a running system to be told anything.
aq_running() {
    [ -n "$AQ_ROOT" ] || return 0
    aq_say "step $aq_n: offline: not run: $aq_description"
    return 1
}

# aq_unit ARGUMENT...: systemctl, or why not.
aq_unit() {
    if ! command -v systemctl >/dev/null 2>&1; then
        aq_fail "no systemctl here: systemctl $*"
        return 1
    fi
    systemctl "$@" || { aq_fail "systemctl $*"; return 1; }
}

# aq_unit_look UNIT: sets aq_enabled and aq_active, each empty where nobody can tell.
aq_unit_look() {
    aq_enabled='' aq_active=''
    command -v systemctl >/dev/null 2>&1 || return 0
    if [ -n "$AQ_ROOT" ]; then
        aq_enabled=$(systemctl --root="$AQ_ROOT" is-enabled -- "$1" 2>/dev/null)
    elif [ -d /run/systemd/system ]; then
        aq_enabled=$(systemctl show --value --property=UnitFileState -- "$1" 2>/dev/null)
        [ "$aq_enabled" != generated ] || aq_enabled=$(systemctl is-enabled -- "$1" 2>/dev/null)
        aq_active=$(systemctl show --value --property=ActiveState -- "$1" 2>/dev/null)
        case $aq_active in reloading | refreshing) aq_active=active ;; esac
    fi
}

# aq_among SEEN WORD...: whether SEEN is one of the words, or any of them is not known.
aq_among() {
    aq_one=$1
    shift
    [ -n "$aq_one" ] || return 0
    for aq_other; do
        if [ -z "$aq_other" ] || [ "$aq_one" = "$aq_other" ]; then return 0; fi
    done
    return 1
}

# aq_unit_guard UNIT ENABLED ACTIVE WAS_ENABLED WAS_ACTIVE: compares a unit with what the run left and what was before.
# Each side may be as it was or as it was left, or on its way; an empty word is a side that the run left alone.
# The words tell too little: a unit is enabled by the first of its links, and by the last. aq_links was counted before.
aq_unit_guard() {
    aq_unit_look "$1"
    aq_between='' aq_died=''
    # what runs no more by itself is nobody's change
    [ "$3" != active ] || aq_died='activating failed'
    case " $aq_halfway " in *" $aq_n "*) aq_between='activating deactivating failed disabled static indirect' ;; esac
    # shellcheck disable=SC2086 # the words between are words
    if aq_among "$aq_enabled" "$4" && aq_among "$aq_active" "$5" && [ -z "$aq_between" ] && [ "$2 $3" != "$4 $5" ] &&
        [ "$aq_links" = 0 ]; then
        return 0
    elif aq_among "$aq_enabled" "$2" "$4" $aq_between && aq_among "$aq_active" "$3" "$5" $aq_between $aq_died; then
        aq_left=1
    else
        aq_changed=1
        aq_what="unit $1 was changed since: found $aq_enabled $aq_active, expected $2 $3"
    fi
}

# aq_unit_links UNIT...: counts in aq_links the links of these units, and removes what a crash left half-built of them.
aq_unit_links() {
    if [ -z "$aq_dry" ]; then
        for aq_folder in "$AQ_ROOT"/etc "$AQ_ROOT"/etc/systemd "$AQ_ROOT"/run "$AQ_ROOT"/run/systemd \
            "$AQ_ROOT"/etc/systemd/system "$AQ_ROOT"/run/systemd/system \
            "$AQ_ROOT"/etc/systemd/system/*.* "$AQ_ROOT"/run/systemd/system/*.*; do
            aq_tmp=$aq_folder/.aq-units
            if [ -L "$aq_tmp" ]; then rm -f -- "$aq_tmp"; elif [ -d "$aq_tmp" ]; then rmdir -- "$aq_tmp"; fi
        done
    fi
    aq_unit_each aq_count_link "$@"
}

aq_count_link() { aq_links=$((aq_links + 1)); }

# aq_unit_has PATH TARGET UID GID: takes a link off aq_links that is as it was; one that is not can never be made up for.
aq_unit_has() {
    if [ "$(readlink -- "$AQ_ROOT$1")" = "$2" ] && [ "$(stat -c '%u %g' -- "$AQ_ROOT$1")" = "$3 $4" ]; then
        aq_links=$((aq_links - 1))
    else
        aq_links=$((aq_links + 1000))
    fi
}

# aq_unit_absent FOLDER...: the same for a folder of links that was not there, and stands empty.
aq_unit_absent() {
    for aq_folder; do
        if [ -d "$AQ_ROOT$aq_folder" ] && [ -z "$(ls -A -- "$AQ_ROOT$aq_folder")" ]; then aq_links=$((aq_links + 1000)); fi
    done
}

# aq_unit_unlink UNIT...: removes every link that enables, masks or aliases one of these units.
aq_unit_unlink() { aq_unit_each aq_unlink "$@"; }

# aq_unit_each COMMAND UNIT...: runs a command for each such link.
aq_unit_each() {
    aq_each_link=$1
    shift
    for aq_folder in "$AQ_ROOT/etc/systemd/system" "$AQ_ROOT/run/systemd/system"; do
        for aq_link in "$aq_folder"/* "$aq_folder"/*.wants/* "$aq_folder"/*.requires/* "$aq_folder"/*.upholds/*; do
            [ -L "$aq_link" ] || continue
            aq_to=$(readlink -- "$aq_link")
            for aq_unit; do
                if [ "${aq_link##*/}" = "$aq_unit" ] || [ "${aq_to##*/}" = "$aq_unit" ]; then
                    "$aq_each_link" "$aq_link"
                    break
                fi
            done
        done
    done
    for aq_unit; do
        aq_script=${aq_unit%.service}
        [ "$aq_script" != "$aq_unit" ] && [ -e "$AQ_ROOT/etc/init.d/$aq_script" ] || continue
        for aq_link in "$AQ_ROOT"/etc/rc[0-6S].d/[SK][0-9][0-9]"$aq_script"; do
            if [ -L "$aq_link" ]; then "$aq_each_link" "$aq_link"; fi
        done
    done
}

# aq_unlink LINK: removes a link, and the folder of links that is empty then.
aq_unlink() {
    rm -f -- "$1" || aq_fail "removing $1"
    case ${1%/*} in *.wants | *.requires | *.upholds) rmdir -- "${1%/*}" 2>/dev/null || : ;; esac
}

# aq_unit_spare FOLDER...: removes folders of links that were not there, as far as they are empty.
aq_unit_spare() {
    for aq_folder; do rmdir -- "$AQ_ROOT$aq_folder" 2>/dev/null || :; done
}

# aq_unit_link PATH TARGET UID GID MTIME
aq_unit_link() {
    [ -d "$AQ_ROOT${1%/*}" ] || (umask 022 && mkdir -p -- "$AQ_ROOT${1%/*}") || { aq_fail "$1"; return 1; }
    aq_symlink "$1" "$2" "$3" "$4" "$5" ''
}

aq_unit_read_again() {
    if [ -z "$AQ_ROOT" ] && [ -d /run/systemd/system ]; then aq_unit daemon-reload; fi
}

# aq_unit_run start|stop UNIT
aq_unit_run() {
    aq_running || return 0
    aq_unit_read_again
    # before a start for the start limit, after a stop because how it ended does not matter
    [ "$1" = stop ] || systemctl reset-failed -- "$2" 2>/dev/null || :
    aq_unit "$1" -- "$2" || return 1
    [ "$1" = start ] || systemctl reset-failed -- "$2" 2>/dev/null || :
}

# ---- packages ----

# aq_in COMMAND...: runs a package manager's command below the root, quietly, and asking nothing.
aq_in() {
    if [ -n "$AQ_ROOT" ]; then set -- chroot "$AQ_ROOT" "$@"; fi
    env PATH="$aq_path" DEBIAN_FRONTEND=noninteractive DEBIAN_PRIORITY=critical UCF_FORCE_CONFFOLD=1 "$@" </dev/null >/dev/null
}

# aq_look_package NAME: sets aq_seen to the state of a package, in the words of the guards.
aq_look_package() {
    aq_name=${1%%=*}
    if [ -f "$AQ_ROOT/var/lib/dpkg/status" ]; then
        aq_seen=$(${AQ_ROOT:+chroot "$AQ_ROOT"} dpkg-query -W -f '${db:Status-Status} ${Version}' "$aq_name" 2>/dev/null)
        case $aq_seen in config-files*) aq_seen=config-files ;; '' | not-installed*) aq_seen=absent ;; esac
    elif aq_seen=$(${AQ_ROOT:+chroot "$AQ_ROOT"} rpm -q --qf 'installed %{EVR}' "$aq_name" 2>/dev/null); then
        :
    else
        aq_seen=absent
    fi
}

# aq_guard_package NAME LEFT WAS: as aq_guard; a state on the way from one to the other is taken up from there.
aq_guard_package() {
    aq_look_package "$1"
    case $aq_seen in
    "$2") aq_left=1 ;;
    "$3") ;;
    absent | config-files | installed\ *)
        aq_changed=1
        aq_what="package $1 was changed since: found $aq_seen, expected $2"
        ;;
    *) aq_left=1 ;;
    esac
}

aq_packages_begin() {
    aq_files='' aq_names='' aq_goes='' aq_purged='' aq_lacks=''
    aq_marks='' aq_expected=''
    aq_place=$AQ_STATE/packages
    [ -z "$AQ_ROOT" ] || aq_place=$AQ_ROOT/var/cache/aquiline-packages
}

# aq_package NAME STATE VERSION MARK HOLD DEB RPM: what a package is to become; its file begins with DEB or RPM.
aq_package() {
    aq_expected="$aq_expected$1|$2
"
    if [ -n "$3" ]; then
        aq_marks="$aq_marks $4:$1 $5:$1"
        aq_look_package "$1"
        [ "$aq_seen" != "$2" ] || return 0
        aq_file_of=''
        for aq_f in "$AQ_STATE/packages/$6"*.deb "$AQ_STATE/packages/$7"*.rpm; do
            if [ -f "$aq_f" ]; then aq_file_of=$aq_f; fi
        done
        if [ -z "$aq_file_of" ]; then
            aq_fail "the file of package $1 $3 is not kept"
            aq_lacks=1
            return 0
        fi
        if [ -n "$AQ_ROOT" ]; then
            mkdir -p -- "$aq_place" && cp -- "$aq_file_of" "$aq_place/" || { aq_fail "copying the file of $1"; aq_lacks=1; }
        fi
        aq_files="$aq_files ./${aq_file_of##*/}"
    else
        aq_goes="$aq_goes ${1%%=*}"
        [ "$2" != absent ] || aq_purged="$aq_purged ${1%%=*}"
    fi
}

# aq_packages: brings them there, and nothing else; fails where they are not there afterwards.
aq_packages() {
    [ -z "$aq_lacks" ] || return 1
    if [ -f "$AQ_ROOT/var/lib/dpkg/status" ]; then aq_by_apt; else aq_by_rpm; fi
    aq_bad=''
    while IFS='|' read -r aq_p aq_state; do
        [ -n "$aq_p" ] || continue
        aq_look_package "$aq_p"
        [ "$aq_seen" = "$aq_state" ] || aq_bad="$aq_bad package $aq_p is $aq_seen, expected $aq_state;"
    done <<AQ_EXPECTED
$aq_expected
AQ_EXPECTED
    [ -z "$aq_bad" ] && return 0
    aq_fail "$aq_bad"
    return 1
}

# shellcheck disable=SC2086 # names of packages and of their files hold nothing a shell expands
aq_by_apt() {
    aq_in dpkg --force-confold --force-confdef --configure --pending 2>/dev/null
    set --
    for aq_f in $aq_goes; do
        aq_look_package "$aq_f"
        case $aq_seen in absent | config-files) ;; *) set -- "$@" "$aq_f-" ;; esac
    done
    if [ -n "$aq_files$*" ]; then
        # files are given by a path that apt sees; below another root the folder is reached from inside
        aq_inside=${aq_place#"$AQ_ROOT"}
        for aq_f in $aq_files; do set -- "$@" "$aq_inside/${aq_f#./}"; done
        aq_in apt-get -y -qq --allow-downgrades --allow-change-held-packages --no-install-recommends \
            -oAPT::Get::AutomaticRemove=false -oAPT::Sandbox::User=root -oDpkg::Use-Pty=0 \
            -oDpkg::Options::=--force-confold -oDpkg::Options::=--force-confdef install "$@"
    fi
    for aq_f in $aq_purged; do
        aq_look_package "$aq_f"
        [ "$aq_seen" = absent ] || aq_in dpkg --purge "$aq_f"
    done
    for aq_f in $aq_marks; do aq_in apt-mark "${aq_f%%:*}" "${aq_f#*:}"; done
}

# shellcheck disable=SC2086 # the same
aq_by_rpm() {
    set --
    for aq_f in $aq_goes; do
        aq_look_package "$aq_f"
        [ "$aq_seen" = absent ] || set -- "$@" "$aq_f"
    done
    [ $# = 0 ] || aq_in rpm -e --nodeps "$@"
    if [ -n "$aq_files" ]; then
        aq_inside=${aq_place#"$AQ_ROOT"}
        set --
        for aq_f in $aq_files; do set -- "$@" "$aq_inside/${aq_f#./}"; done
        aq_in rpm -U --oldpackage --replacepkgs "$@"
    fi
    for aq_f in $aq_marks; do
        case $aq_f in
        auto:*) aq_in dnf -q -C -y mark remove "${aq_f#*:}" ;;
        manual:*) aq_in dnf -q -C -y mark install "${aq_f#*:}" ;;
        esac
    done
}

# aq_signal NAME PROCESS: none running is success.
aq_signal() {
    if ! command -v pkill >/dev/null 2>&1; then
        aq_fail "no pkill here: pkill -$1 -x $2"
        return 1
    fi
    pkill "-$1" -x "$2"
    aq_check $? "pkill -$1 -x $2" 0 1
}

aq_python() {
    command -v python3 >/dev/null 2>&1 && return 0
    aq_fail "needs python3, which is not here: $aq_description"
    return 1
}

# ---- what the chunks call ----

# aq_step N reversed|after [DATABASE]: N is one of the steps; its function is u_N, and does nothing but set an entry where
# a database is named. A later one of the same N replaces it.
aq_step() {
    aq_last_step=$1
    eval "aq_entry_$1=\${3-}"
    case " $aq_reversed $aq_after " in *" $1 "*) return 0 ;; esac
    if [ "$2" = after ]; then aq_after="$aq_after $1"; else aq_reversed="$1 $aq_reversed"; fi
}

# aq_parent N: t_N sets the time of a directory; the first recorded runs last.
aq_parent() { aq_times="$1 $aq_times"; }

# ---- the program ----

aq_usage() {
    sed -n '2,/^# done; 2 usage/s/^# \{0,1\}//p' "$aq_self"
}

aq_parse() {
    while [ $# -gt 0 ]; do
        case $1 in
        --list) aq_list=1 ;;
        --dry-run) aq_dry=1 ;;
        --force) aq_force=1 ;;
        --only)
            case ${2-} in '' | *[!0-9]*) aq_say "--only wants the number of a step" >&2; exit 2 ;; esac
            aq_only="$aq_only $2 "
            shift
            ;;
        --help | -h) aq_usage; exit 0 ;;
        *) aq_say "what is $1? --help says what there is" >&2; exit 2 ;;
        esac
        shift
    done
}

# aq_load: reads the whole chunks of this file.
aq_load() {
    aq_first=$(sed -n '/^#chunk 1$/{=;q;}' "$aq_self")
    aq_ends=$(sed -n '/^#end [0-9][0-9]* [0-9a-f]\{64\}$/=' "$aq_self")
    # From the last one back to the first that is whole.
    aq_whole=''
    for aq_end in $(for aq_line in $aq_ends; do printf '%s\n' "$aq_line"; done | sed -n '1!G;h;$p'); do
        aq_sum=$(sed -n "${aq_end}s/^#end [0-9]* //p" "$aq_self")
        aq_start=$aq_first
        for aq_line in $aq_ends; do
            [ "$aq_line" -lt "$aq_end" ] || break
            aq_start=$((aq_line + 1))
        done
        aq_digest=$(sed -n "${aq_start},$((aq_end - 1))p" "$aq_self" | sha256sum)
        if [ "${aq_digest%% *}" = "$aq_sum" ]; then
            aq_whole=$aq_end
            break
        fi
        aq_say "a chunk that is not whole is left out" >&2
    done
    [ -n "$aq_whole" ] || { aq_say "nothing was done in this run" >&2; return 0; }
    eval "$(sed -n "${aq_first},${aq_whole}p" "$aq_self")"
}

# aq_each N...: takes these steps, those that are entries together.
aq_each() {
    aq_waiting='' aq_databases=''
    for aq_each_n; do
        case $aq_only in '' | *" $aq_each_n "*) ;; *) continue ;; esac
        eval "aq_database=\$aq_entry_$aq_each_n"
        if [ -n "$aq_database" ]; then
            aq_waiting="$aq_waiting $aq_each_n"
            case " $aq_databases " in *" $aq_database "*) ;; *) aq_databases="$aq_databases $aq_database" ;; esac
        else
            aq_edit_waiting
            "u_$aq_each_n"
        fi
    done
    aq_edit_waiting
}

aq_edit_waiting() {
    [ -n "$aq_waiting" ] || return 0
    aq_n=${aq_waiting##* }
    # shellcheck disable=SC2086 # numbers
    aq_edit "$aq_databases" '' aq_queue $aq_waiting
    aq_waiting='' aq_databases=''
}

aq_main() {
    aq_self=$0
    case $aq_self in */*) ;; *) aq_self=./$aq_self ;; esac
    [ -f "$aq_self" ] || { aq_say "run it as a file: sh RUN.sh" >&2; exit 2; }
    AQ_STATE=${aq_self%/*}/..
    AQ_STATE=$(cd -P -- "$AQ_STATE" && pwd -P) || exit 1
    aq_done=${aq_self%.sh}.done
    aq_parse "$@"
    aq_load
    if [ -n "$aq_list" ]; then
        for aq_number in $aq_reversed $aq_after; do "l_$aq_number"; done
        exit 0
    fi
    aq_each $aq_reversed
    aq_each $aq_after
    if [ -z "$aq_dry$aq_only" ]; then
        for aq_number in $aq_times; do "t_$aq_number"; done
    fi
    [ -n "$aq_dry" ] || sync
    [ "$aq_conflicts$aq_failures" = 00 ] || aq_say "$aq_conflicts conflicts, $aq_failures could not be done" >&2
    [ "$aq_failures" = 0 ] || exit 1
    [ "$aq_conflicts" = 0 ] || exit 12
}

@START@

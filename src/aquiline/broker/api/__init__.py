"""The broker over HTTP: who may ask, what a request may weigh, and which function of `aquiline.broker` answers it."""

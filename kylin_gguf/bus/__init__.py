"""The D-Bus front end: convert, make one call, convert back. The only place that knows dbus-next."""

# One command, in the variable `command`. It must not read the connection.
run() { sh -c "$command" </dev/null; }
answer 's/^/log /' run

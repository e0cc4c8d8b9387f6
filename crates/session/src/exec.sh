# One command, in the variable `command`, once it is asked for: a connection that is lost before has run nothing. It must not
# read the connection.
run() { sh -c "$command" </dev/null; }
finish 0
read -r verb && [ "$verb" = run ] && answer 's/^/log /' run

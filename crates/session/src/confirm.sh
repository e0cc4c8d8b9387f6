# The fresh connection of an activation: that it is there is what it says, and how the activation goes on is what it is told.
# The variables `helper`, `id` and `token` stand before it: the program is sent once the token is known, and so is the connection
# made after that.
finish 0
"$helper/bin/bosco" helper confirm "$id" ${token:+"$token"}
finish "$?"

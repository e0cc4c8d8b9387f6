# Makes, changes and takes away users and groups, from lines of
#   group:NAME:GID:MEMBERS
#   user:NAME:UID:GROUP:HOME:SHELL:HOME-MODE-IF-MADE:DESCRIPTION:normal|system:HASH:PASSWORD:EXTRA-GROUPS
# What was declared before and is not any more goes; what never was declared is the base system's and stays.
spec=$1 mutable=$2
state=/var/lib/nixos
PATH=$PATH:/usr/sbin:/usr/bin
dry=
[ "$NIXOS_ACTION" != dry-activate ] || dry=1
status=0

run() { # run WHAT COMMAND…
  local what=$1; shift
  if [ -n "$dry" ]; then echo "would $what"; else "$@" || { echo "failed to $what" >&2; status=1; }; fi
}

# What there is: lines of /etc/passwd and of /etc/group, by name.
declare -A passwd gids members_of
read_accounts() {
  passwd=() gids=() members_of=()
  local name x gid rest
  while IFS= read -r rest; do passwd[${rest%%:*}]=$rest; done < /etc/passwd
  while IFS=: read -r name x gid rest; do gids[$name]=$gid members_of[$name]=$rest; done < /etc/group
}
read_accounts

had_users= had_groups=
[ ! -e $state/declarative-users ] || had_users=$(cat $state/declarative-users)
[ ! -e $state/declarative-groups ] || had_groups=$(cat $state/declarative-groups)
users=" " groups=" "

while IFS=: read -r kind name gid members; do
  [ "$kind" = group ] || continue
  groups="$groups$name "
  now=${gids[$name]}
  if [ -z "$now" ]; then
    run "create group ‘$name’" groupadd ${gid:+-g "$gid"} $([ -n "$gid" ] || echo --system) "$name"
  elif [ -n "$gid" ] && [ "$gid" != "$now" ]; then
    run "change the gid of group ‘$name’" groupmod -g "$gid" "$name"
  fi
done < "$spec"

read_accounts
while IFS=: read -r kind name uid group home shell mode description sort hash password extra; do
  [ "$kind" = user ] || continue
  users="$users$name "
  fresh=
  IFS=: read -r _ _ was_uid was_gid was_description was_home was_shell <<< "${passwd[$name]}"
  if [ -z "$was_uid" ]; then
    fresh=1
    run "create user ‘$name’" useradd -M ${uid:+-u "$uid"} $([ "$sort" = normal ] || echo --system) -g "$group" -d "$home" -s "$shell" -c "$description" "$name"
  else
    set --
    [ -z "$uid" ] || [ "$uid" = "$was_uid" ] || set -- "$@" -u "$uid"
    [ "${gids[$group]}" = "$was_gid" ] || set -- "$@" -g "$group"
    [ "$home" = "$was_home" ] || set -- "$@" -d "$home"
    [ "$shell" = "$was_shell" ] || set -- "$@" -s "$shell"
    [ "$description" = "$was_description" ] || set -- "$@" -c "$description"
    [ $# = 0 ] || run "change user ‘$name’" usermod "$@" "$name" 2>/dev/null
  fi
  if [ -n "$fresh" ] || [ "$mutable" = fixed ]; then
    [ -z "$hash" ] || run "set the password of ‘$name’" usermod -p "$hash" "$name"
    [ -z "$password" ] || [ -n "$dry" ] || echo "$name:$password" | chpasswd
  fi
  if [ -n "$mode" ] && [ -z "$dry" ] && [ ! -e "$home" ]; then
    mkdir -p "$home" && chmod "$mode" "$home" && chown "$name:$group" "$home"
  fi
done < "$spec"

# Members: exactly those that are declared, for the groups that are. No tool has words for it.
read_accounts
set_members() { sed -i "s|^\($1:[^:]*:[^:]*:\).*|\1$2|" /etc/group; }
while IFS=: read -r kind name gid members; do
  [ "$kind" = group ] || continue
  [ "${members_of[$name]}" = "$members" ] || run "set the members of ‘$name’" set_members "$name" "$members"
done < "$spec"

for name in $had_users; do case $users in *" $name "*) ;; *) run "remove user ‘$name’" userdel "$name" ;; esac; done
read_accounts
for name in $had_groups; do case $groups in *" $name "*) ;; *) [ -z "${gids[$name]}" ] || run "remove group ‘$name’" groupdel "$name" ;; esac; done
if [ -z "$dry" ]; then
  mkdir -p $state
  echo "${users# }" > $state/declarative-users
  echo "${groups# }" > $state/declarative-groups
fi
exit $status

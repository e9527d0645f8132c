#!/bin/sh
# Start Redis with the settings and the users beside this file. The password of the service's user
# is in $REDISCLI_AUTH, which redis-cli reads too.
set -eu
here=$(dirname "$0")
hash=$(printf %s "${REDISCLI_AUTH:?is not set}" | sha256sum)

# From standard input, because process arguments are visible to other users. The last line of
# users.acl is the service's user; the hash of its password is appended.
exec redis-server - "$@" <<END
$(cat "$here/redis.conf")
$(cat "$here/users.acl") #${hash%% *}
END

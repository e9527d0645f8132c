#!/bin/sh
# Start Redis with the settings and the users beside this file. The password of the service's user
# is in $REDISCLI_AUTH, where redis-cli looks for it too.
set -eu
here=$(dirname "$0")
hash=$(printf %s "${REDISCLI_AUTH:?is not set}" | sha256sum)

# From standard input, because everyone who can list processes reads their arguments. The last line
# of users.acl is the service's user, to which the password, hashed, is added.
exec redis-server - "$@" <<END
$(cat "$here/redis.conf")
$(cat "$here/users.acl") #${hash%% *}
END

// A standard client: told on stdin where the service is, and with which key it calls, it finds the
// rest in the metadata, creates a token and consumes it, and prints what came of it.

import { json } from "node:stream/consumers";
import * as oauth from "openid-client";

const { url, id, key } = await json(process.stdin);
const issuer = new URL(url);
// The service of a test has no TLS.
const options = { algorithm: "oauth2", execute: [oauth.allowInsecureRequests] };
const connect = (authentication) =>
  oauth.discovery(issuer, id, undefined, authentication, options);

async function use(config) {
  const scope = "token:create token:consume";
  const granted = await oauth.clientCredentialsGrant(config, { scope });
  const call = (method, path, body) =>
    oauth.fetchProtectedResource(
      config,
      granted.access_token,
      new URL(path, issuer),
      method,
      body && JSON.stringify(body),
      new Headers(body && { "content-type": "application/json" }),
    );
  const created = await call("POST", "/token/create", { data: { order: 7 } });
  const { token } = await created.json();
  const consumed = await call("POST", "/token/consume", { token });
  const { data, consumed_with } = await consumed.json();
  const refused = await call("GET", "/token").catch((error) => error);
  return {
    scope: granted.scope,
    statuses: [created.status, consumed.status, refused.status],
    challenge: refused.cause[0],
    data,
    consumed_with,
  };
}

const used = [];
for (const authentication of [oauth.ClientSecretBasic(key), oauth.ClientSecretPost(key)]) {
  used.push(await use(await connect(authentication)));
}

const config = await connect(oauth.ClientSecretBasic(key));
const lacking = await oauth
  .clientCredentialsGrant(config, { scope: "token:revoke" })
  .catch((error) => error);
await oauth.tokenRevocation(config, key);
console.log(JSON.stringify({ used, lacking: [lacking.status, lacking.error] }));

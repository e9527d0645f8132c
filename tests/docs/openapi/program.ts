// A create, a consume and a refused consume by a client that openapi-typescript generates.
import createClient from "openapi-fetch";

import type { components, paths } from "./document.js";

type Outcome = { room: unknown; code: components["schemas"]["Problem"]["code"]; since: string };

export async function run(baseUrl: string, jwt: string, issuer: string): Promise<Outcome> {
  const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${jwt}` } });
  const created = await client.POST("/token/create", {
    body: { purpose: "ws.connect", data: { room: 7 }, expires_in: 60 },
  });
  if (!created.data) throw new Error(created.error.code);
  const body = { token: created.data.token, purpose: "ws.connect", issued_by: [issuer] };
  const consumed = await client.POST("/token/consume", { body });
  if (!consumed.data) throw new Error(consumed.error.code);
  const refused = await client.POST("/token/consume", { body });
  if (!refused.error?.consumed_at) throw new Error("it was consumed twice");
  return {
    room: consumed.data.data?.room,
    code: refused.error.code,
    since: refused.error.consumed_at,
  };
}

/** The headers of a request, as of fetch or of Node. */
export type RequestHeaders =
  | { get(name: string): string | null }
  | Readonly<Record<string, string | readonly string[] | undefined>>;

/** The name of the subprotocol behind which a page puts its ticket. */
export const PROTOCOL = "ott";

/** A header of a request; "" where it has none. */
export function header(headers: RequestHeaders, name: string): string {
  const found = typeof headers.get === "function" ? headers.get(name) : field(headers, name);
  return String(found ?? "");
}

function field(headers: RequestHeaders, name: string): unknown {
  return (headers as Record<string, unknown>)[name];
}

/** The ticket of a WebSocket, `Sec-WebSocket-Protocol: ott, <token>`; null where it has none. */
export function websocketTicket(headers: RequestHeaders): string | null {
  const offered = header(headers, "sec-websocket-protocol")
    .split(",")
    .map((word) => word.trim());
  const place = offered.indexOf(PROTOCOL);
  return (place >= 0 && offered[place + 1]) || null;
}

/** The link of an e-mail. What stands behind the # stays in the browser. */
export function emailLink(url: string, created: { readonly token: string }): string {
  if (url.includes("#")) throw new TypeError("the url has a # of its own");
  return `${url}#${created.token}`;
}

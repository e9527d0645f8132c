import { crypto } from "#crypto";

/**
 * The hash of an action, for `bind`: SHA-256 of its canonical JSON (RFC 8785), in hexadecimal.
 *
 * @throws TypeError the action has parts that are no JSON
 */
export async function bindOf(action: unknown): Promise<string> {
  if (!crypto.subtle) throw new TypeError("a browser hashes on pages of https and localhost alone");
  const bytes = new TextEncoder().encode(canonical(action));
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** RFC 8785: its numbers and texts are those of JSON.stringify, and its names are sorted. */
function canonical(value: unknown): string {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "number" && Number.isFinite(value)) return JSON.stringify(value);
  // A lone surrogate has no UTF-8.
  if (typeof value === "string" && !/\p{Surrogate}/u.test(value)) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${Array.from(value, canonical).join()}]`;
  if (isPlain(value)) {
    const members = Object.keys(value).sort();
    return `{${members.map((name) => `${canonical(name)}:${canonical(value[name])}`).join()}}`;
  }
  throw new TypeError("the action has a part that is no JSON");
}

function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

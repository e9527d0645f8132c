import type { components } from "./wire.js";

type Schemas = components["schemas"];
type Camel<Name extends string> = Name extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<Camel<Tail>>}`
  : Name;
type Time<Value> = Value extends null ? null : Value extends undefined ? undefined : Date;
/** A body of the service, with the names and the times of TypeScript. */
type Named<Body> = {
  [Name in keyof Body as string extends Name ? never : Camel<Name & string>]: Name extends
    `${string}_at` | "server_time"
    ? Time<Body[Name]>
    : Body[Name];
};

/** A new token. `token` is the secret: `JSON.stringify` and `console.log` leave it out. */
export interface Created extends Named<Schemas["CreateTokenResponse"]> {}

/** The one use of a token. */
export interface Use extends Omit<
  Named<Schemas["ValidateResponse"]>,
  "message" | "valid" | "consumedWith"
> {}

/** A token that is held while an action runs. */
export interface Held extends Omit<Named<Schemas["ReserveResponse"]>, "reservation"> {}

/** A token as it is now; `{ active: false }` alone where it is not good for the caller. */
export interface Peeked extends Named<Schemas["IntrospectResponse"]> {}

/** The record of a token, without its secret. */
export interface Receipt extends Named<Schemas["ReceiptResponse"]> {}

/** The members of a body under the names of TypeScript, and its times read. */
export function named(body: object): object {
  const members = Object.entries(body).map(([name, value]) => [
    name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()),
    typeof value === "string" && /_at$|^server_time$/.test(name) ? new Date(value) : value,
  ]);
  return Object.fromEntries(members);
}

/** The members of a body under the names of the service. */
export function wired(terms: object): object {
  const members = Object.entries(terms).map(([name, value]) => [
    name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    value,
  ]);
  return Object.fromEntries(members);
}

export function created(body: Schemas["CreateTokenResponse"]): Created {
  const { token, ...rest } = body;
  return Object.defineProperty(named(rest), "token", { value: token }) as Created;
}

export function used(body: Schemas["ValidateResponse"]): Use {
  const { message, valid, consumed_with, ...rest } = body;
  return named(rest) as Use;
}

export function held(body: Schemas["ReserveResponse"]): Held {
  const { reservation, ...rest } = body;
  return named(rest) as Held;
}

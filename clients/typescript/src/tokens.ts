import { crypto } from "#crypto";
import type { TokensError } from "./errors.js";
import { type Call, Http, type HttpOptions } from "./http.js";
import { type Credentials, isStale, Key, Session } from "./session.js";
import {
  type Created,
  created,
  type Held,
  held,
  named,
  type Peeked,
  type Receipt,
  type Use,
  used,
  wired,
} from "./values.js";
import type { components } from "./wire.js";

type Schemas = components["schemas"];

/** What a call repeats under: 1 to 255 visible ASCII characters; a new one without it. */
interface Repeatable {
  idempotencyKey?: string | undefined;
}

export interface CreateTerms extends Repeatable {
  /** What the token is good for; its consumer must name the same. */
  purpose: string;
  /** The only accounts that may consume it: ids or e-mail addresses, up to 16. */
  audience?: string | readonly string[] | undefined;
  /** The person or thing that it speaks for. */
  subject?: string | undefined;
  /** Handed to its consumer: up to 4096 bytes of JSON. */
  data?: Readonly<Record<string, unknown>> | undefined;
  /** The hash of the one action that it approves, as of `bindOf`. */
  bind?: string | undefined;
  /** Its life in seconds. */
  expiresIn?: number | undefined;
  /** Whether its consumer must name the subject. */
  requireSubject?: boolean | undefined;
  /** Whether its audience may name an address without an account. */
  allowUnregistered?: boolean | undefined;
}

export interface Issuers {
  /** The only accounts whose tokens are accepted: ids or e-mail addresses, 1 to 16. */
  issuedBy: string | readonly string[];
}

export interface ConsumeTerms extends Issuers, Repeatable {
  purpose: string;
  subject?: string | undefined;
  bind?: string | undefined;
}

export interface HoldTerms extends ConsumeTerms {
  /** The longest time of the action in seconds: 30 without it, 60 at most. */
  lease?: number | undefined;
}

export interface Options extends HttpOptions {
  /** The service key, `osk_…`, or the session of a login. */
  key: string | Credentials;
}

export interface Login extends HttpOptions {
  email: string;
  password: string;
}

/**
 * A caller of the token service.
 *
 * A call is repeated, under one idempotency key, after 429, 502, 503, 504 and no response, and
 * never after any other. It throws a {@link TokensError}.
 */
export class Tokens {
  readonly #http: Http;
  readonly #credentials: Credentials;

  /** @param url the address of the service, such as `https://tokens.example.com` */
  constructor(url: string, options: Options) {
    const { key, ...rest } = options;
    this.#http = new Http(url, rest);
    this.#credentials = typeof key === "object" ? key : new Key(key);
  }

  /** A caller in the name of a person, until the session of this login ends. */
  static async login(url: string, options: Login): Promise<Tokens> {
    const { email, password, ...rest } = options;
    const key = await Session.login(new Http(url, rest), email, password);
    return new Tokens(url, { ...rest, key });
  }

  /** Create a token, which can be used once. */
  async create(terms: CreateTerms): Promise<Created> {
    const { idempotencyKey, ...rest } = terms;
    return created(await this.#repeatable("/token/create", creation(rest), idempotencyKey));
  }

  /** Create up to 100 tokens of the same terms, all or none. */
  async createMany(count: number, terms: CreateTerms): Promise<Created[]> {
    const { idempotencyKey, ...rest } = terms;
    const body = { count, ...creation(rest) };
    const made = await this.#repeatable<Schemas["CreateTokensResponse"]>(
      "/token/batch",
      body,
      idempotencyKey,
    );
    return made.tokens.map(created);
  }

  /** Make the one use of a token. */
  async consume(token: string, terms: ConsumeTerms): Promise<Use> {
    const { idempotencyKey, ...rest } = terms;
    const body = { token, ...presentation(rest) };
    return used(await this.#repeatable("/token/consume", body, idempotencyKey));
  }

  /**
   * Hold a token while an action runs: consume it where the action returns, and release it where
   * the action throws.
   *
   * @returns the result of the action
   */
  async hold<Result>(
    token: string,
    terms: HoldTerms,
    action: (held: Held) => Result | Promise<Result>,
  ): Promise<Result> {
    const { idempotencyKey = newKey(), lease, ...rest } = terms;
    const body = { token, lease_seconds: lease, ...presentation(rest) };
    const reserved = await this.#repeatable<Schemas["ReserveResponse"]>(
      "/token/reserve",
      body,
      idempotencyKey,
    );
    const { reservation } = reserved;
    let result: Result;
    try {
      result = await action(held(reserved));
    } catch (error) {
      // Where the release fails, the lease ends by itself. The error of the action says more.
      await this.#send({ method: "POST", path: "/token/release", body: { reservation } }).catch(
        () => undefined,
      );
      throw error;
    }
    await this.#repeatable("/token/commit", { reservation }, idempotencyKey);
    return result;
  }

  /** Look at a token without consuming it. */
  async peek(token: string, terms: Issuers): Promise<Peeked> {
    const body = { token, issued_by: issuers(terms) };
    return named(await this.#send({ method: "POST", path: "/token/introspect", body })) as Peeked;
  }

  /** The receipt of a token, by its id. */
  async receipt(id: string): Promise<Receipt> {
    return named(await this.#send({ method: "GET", path: `/token/${checked(id)}` })) as Receipt;
  }

  /** Revoke a token of one's own by its id. */
  async revoke(id: string): Promise<void> {
    await this.#send({ method: "DELETE", path: `/token/${checked(id)}` });
  }

  /** Revoke a token by its text: for its creator and its audience. */
  async revokeToken(token: string): Promise<void> {
    await this.#send({ method: "POST", path: "/token/revoke", body: { token } });
  }

  #repeatable<Body extends object>(path: string, body: object, key = newKey()): Promise<Body> {
    if (!/^[!-~]{1,255}$/.test(key)) {
      throw new TypeError("idempotencyKey takes 1 to 255 visible ASCII characters");
    }
    return this.#send({ method: "POST", path, body, headers: { "Idempotency-Key": key } });
  }

  async #send<Body extends object>(call: Call): Promise<Body> {
    const end = this.#http.end();
    const send = (bearer: string) => {
      const headers = { ...call.headers, Authorization: `Bearer ${bearer}` };
      return this.#http.send<Body>({ ...call, headers }, end);
    };
    const { bearer } = this.#credentials;
    try {
      return await send(bearer);
    } catch (error) {
      if (!isStale(error) || !(await this.#credentials.renew(bearer, end))) throw error;
      return send(this.#credentials.bearer);
    }
  }
}

function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The body of a create. */
function creation(terms: Omit<CreateTerms, "idempotencyKey">): object {
  const { audience } = terms;
  purposeOf(terms);
  return wired({ ...terms, audience: typeof audience === "string" ? [audience] : audience });
}

/** The body of a consume or a reserve, without the token. */
export function presentation(terms: Omit<ConsumeTerms, "idempotencyKey">): object {
  purposeOf(terms);
  return wired({ ...terms, issuedBy: issuers(terms) });
}

function purposeOf({ purpose }: { purpose: string }): void {
  if (!purpose || typeof purpose !== "string") throw new TypeError("purpose is missing");
}

function issuers({ issuedBy }: Issuers): readonly string[] {
  const list = typeof issuedBy === "string" ? [issuedBy] : issuedBy;
  if (!Array.isArray(list) || !list.length || !list.every((issuer) => issuer)) {
    throw new TypeError("issuedBy is missing: name the accounts whose tokens are accepted");
  }
  return list;
}

/** An id, which becomes part of a URL: the text of a token must not. */
function checked(id: string): string {
  if (!/^[0-9A-Za-z]{1,64}$/.test(id)) throw new TypeError("this is not the id of a token");
  return id;
}

import { CallRefused } from "./errors.js";
import type { Http } from "./http.js";
import type { components } from "./wire.js";

type Opened = components["schemas"]["LoginResponse"];

/** The bearer of each call: a service key, or the access token of a person. */
export interface Credentials {
  readonly bearer: string;
  /** Renew a bearer that the service no longer takes; false where that is impossible. */
  renew(refused: string, end: number): Promise<boolean>;
}

/** A service key, which is never renewed. */
export class Key implements Credentials {
  readonly #key: string;

  constructor(key: string) {
    // The error of fetch for such a header would show the key.
    if (typeof key !== "string" || !/^[!-~]+$/.test(key)) {
      throw new TypeError("the key is missing, or not of visible ASCII");
    }
    this.#key = key;
  }

  get bearer(): string {
    return this.#key;
  }

  async renew(): Promise<boolean> {
    return false;
  }
}

/** The session of a person, which its refresh token prolongs. */
export class Session implements Credentials {
  readonly #http: Http;
  #opened: Opened;
  #renewing: Promise<void> | null = null;

  private constructor(http: Http, opened: Opened) {
    this.#http = http;
    this.#opened = opened;
  }

  static async login(http: Http, email: string, password: string): Promise<Session> {
    const request = { method: "POST", path: "/auth/login", body: { email, password } } as const;
    return new Session(http, await http.send<Opened>(request, http.end()));
  }

  get bearer(): string {
    return this.#opened.access_token;
  }

  async renew(refused: string, end: number): Promise<boolean> {
    if (refused !== this.bearer) return true; // by another call, meanwhile
    if (!this.#opened.refresh_token) return false;
    // A refresh token is presented once, or the service takes the second for that of a thief.
    this.#renewing ??= this.#refresh(end).finally(() => {
      this.#renewing = null;
    });
    await this.#renewing;
    return true;
  }

  async #refresh(end: number): Promise<void> {
    const body = { refresh_token: this.#opened.refresh_token };
    const request = { method: "POST", path: "/auth/refresh", body } as const;
    this.#opened = await this.#http.send<Opened>(request, end);
  }
}

/** Whether an error says that the bearer is too old. */
export function isStale(error: unknown): boolean {
  const codes = ["access_token_expired", "access_token_invalid"];
  return error instanceof CallRefused && codes.includes(error.code);
}

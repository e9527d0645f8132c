export { bindOf } from "./bind.js";
export {
  AlreadyUsed,
  CallRefused,
  Expired,
  LeaseEnded,
  Lost,
  Malformed,
  Mismatch,
  NotForCaller,
  type Problem,
  RateLimited,
  Refused,
  Reserved,
  Revoked,
  TokensError,
  Unavailable,
  Unknown,
} from "./errors.js";
export type { HttpOptions } from "./http.js";
export { emailLink, type RequestHeaders, websocketTicket } from "./tickets.js";
export {
  type ConsumeTerms,
  type CreateTerms,
  type HoldTerms,
  type Issuers,
  type Login,
  type Options,
  Tokens,
} from "./tokens.js";
export type { Created, Held, Peeked, Receipt, Use } from "./values.js";

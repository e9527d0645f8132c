// Made by generate.mjs from the OpenAPI document of the service.

export type paths = Record<string, never>;
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        PasswordRequest: {
            /**
             * Format: password
             * @example tres tristes tigres en un trigal
             */
            old: string;
            /**
             * Format: password
             * @example tres tristes tigres en un trigal
             */
            new: string;
        };
        ResetRequest: {
            /** @example ott_0042… */
            token: string;
            /**
             * Format: password
             * @example tres tristes tigres en un trigal
             */
            password: string;
        };
        EraseRequest: {
            /**
             * Format: password
             * @example tres tristes tigres en un trigal
             */
            password: string;
        };
        KeyLimits: {
            /** @example 10 per minute */
            create?: string;
            /** @example 100 per minute */
            validate?: string;
        };
        KeyRequest: {
            /** @example billing */
            name: string;
            /**
             * @example [
             *       "token:consume"
             *     ]
             */
            scopes: ("token:create" | "token:consume" | "token:read" | "token:revoke")[];
            /** @description the only ones that it may create and consume */
            purposes?: string[];
            /** @description the only networks that it may come from */
            cidrs?: string[];
            /** @description life in seconds; without it, until it is revoked */
            expires_in?: number;
            limits?: components["schemas"]["KeyLimits"];
        };
        NewKeyResponse: {
            /** @description public; safe in logs and URLs */
            id: string;
            name: string;
            scopes: string[];
            /** @description any, where it is empty */
            purposes: string[];
            /** @description any, where it is empty */
            cidrs: string[];
            limits: {
                [key: string]: string;
            };
            /** @description its limits stand in place of the account's */
            own_quota: boolean;
            /** Format: date-time */
            created_at: string;
            /** Format: date-time */
            expires_at: string | null;
            /** Format: date */
            last_used_on: string | null;
            /**
             * @description shown once
             * @example osk_0042…
             */
            key: string;
        } & {
            [key: string]: unknown;
        };
        KeyResponse: {
            /** @description public; safe in logs and URLs */
            id: string;
            name: string;
            scopes: string[];
            /** @description any, where it is empty */
            purposes: string[];
            /** @description any, where it is empty */
            cidrs: string[];
            limits: {
                [key: string]: string;
            };
            /** @description its limits stand in place of the account's */
            own_quota: boolean;
            /** Format: date-time */
            created_at: string;
            /** Format: date-time */
            expires_at: string | null;
            /** Format: date */
            last_used_on: string | null;
        } & {
            [key: string]: unknown;
        };
        KeysResponse: {
            items: components["schemas"]["KeyResponse"][];
        } & {
            [key: string]: unknown;
        };
        LoginRequest: {
            /**
             * Format: email
             * @example ana@example.com
             */
            correo?: string;
            /**
             * Format: password
             * @example tres tristes tigres en un trigal
             */
            password: string;
            /** @description another name of correo; never both */
            email?: string;
        } & (unknown | unknown);
        LoginResponse: {
            /** @example eyJhbGciOiJIUzI1NiJ9.… */
            access_token: string;
            /** @example bearer */
            token_type: string;
            /**
             * @description seconds
             * @example 900
             */
            expires_in: number;
            /** @description for `/auth/refresh`; absent while Postgres is read-only */
            refresh_token?: string;
        } & {
            [key: string]: unknown;
        };
        OAuthErrorResponse: {
            /** @example invalid_client */
            error: string;
            error_description: string;
        } & {
            [key: string]: unknown;
        };
        ClientTokenResponse: {
            /** @example eyJhbGciOiJIUzI1NiJ9.… */
            access_token: string;
            /** @example Bearer */
            token_type: string;
            /**
             * @description seconds
             * @example 900
             */
            expires_in: number;
            /** @example token:create token:consume */
            scope: string;
        } & {
            [key: string]: unknown;
        };
        RevokedResponse: {
            [key: string]: unknown;
        };
        RefreshRequest: {
            /** @example osr_0042… */
            refresh_token: string;
        };
        SessionResponse: {
            /** Format: uuid */
            id: string;
            /** Format: date-time */
            created_at: string;
            /**
             * Format: date-time
             * @description the last refresh
             */
            rotated_at: string;
            user_agent: string;
            address: string;
            /** @description the session of this call */
            current: boolean;
        } & {
            [key: string]: unknown;
        };
        SessionsResponse: {
            items: components["schemas"]["SessionResponse"][];
        } & {
            [key: string]: unknown;
        };
        RegisterRequest: {
            /**
             * Format: password
             * @example tres tristes tigres en un trigal
             */
            password: string;
            /** @example Ana */
            nombre?: string;
            /**
             * Format: email
             * @example ana@example.com
             */
            correo?: string;
            /**
             * @description another name of nombre; never both
             * @example Ana
             */
            name?: string;
            /** @description another name of correo; never both */
            email?: string;
        } & ((unknown | unknown) & (unknown | unknown));
        AccountResponse: {
            /** Format: uuid */
            readonly id: string;
            nombre: string;
            correo: string;
            is_active: boolean;
            /** Format: date-time */
            created_at: string;
        } & {
            [key: string]: unknown;
        };
        CreateTokenRequest: {
            /**
             * @description life in seconds
             * @example 60
             */
            expires_in?: number;
            /** @example ws.connect */
            purpose?: string;
            /** @description the only accounts that may consume it */
            audience?: string[];
            /** @description its audience may name an address without an account, for the account that registers it first; by default false */
            allow_unregistered?: boolean;
            /**
             * @description the party it speaks for
             * @example order 7
             */
            subject?: string;
            /** @description its consumer must name the subject, or is refused; by default false */
            require_subject?: boolean;
            /**
             * @description handed to its consumer
             * @example {
             *       "room": 7
             *     }
             */
            data?: {
                [key: string]: unknown;
            };
            /**
             * @description SHA-256 of the approved action
             * @example 0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f
             */
            bind?: string;
        };
        CreateTokenResponse: {
            /**
             * @description shown once
             * @example ott_0042…
             */
            token: string;
            /** @description public; safe in logs and URLs */
            id: string;
            /** @description seconds left; 0 where it is neither active nor reserved */
            expires_in: number;
            /** Format: date-time */
            expires_at: string;
            /** Format: date-time */
            server_time: string;
            purpose: string | null;
            /** @description ids; addresses only where they had no account */
            audience: string[] | null;
            subject: string;
            /** @enum {string} */
            state: "active" | "reserved" | "consumed" | "revoked" | "expired" | "lost";
            /** @description an earlier call created it */
            replayed: boolean;
        } & {
            [key: string]: unknown;
        };
        CreateTokensRequest: {
            /**
             * @description life in seconds
             * @example 60
             */
            expires_in?: number;
            /** @example ws.connect */
            purpose?: string;
            /** @description the only accounts that may consume it */
            audience?: string[];
            /** @description its audience may name an address without an account, for the account that registers it first; by default false */
            allow_unregistered?: boolean;
            /**
             * @description the party it speaks for
             * @example order 7
             */
            subject?: string;
            /** @description its consumer must name the subject, or is refused; by default false */
            require_subject?: boolean;
            /**
             * @description handed to its consumer
             * @example {
             *       "room": 7
             *     }
             */
            data?: {
                [key: string]: unknown;
            };
            /**
             * @description SHA-256 of the approved action
             * @example 0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f
             */
            bind?: string;
            /** @example 3 */
            count: number;
        };
        CreateTokensResponse: {
            tokens: components["schemas"]["CreateTokenResponse"][];
        } & {
            [key: string]: unknown;
        };
        ValidateRequest: {
            /** @example ott_0042… */
            token: string;
            /** @example ws.connect */
            purpose?: string;
            /** @example order 7 */
            subject?: string;
            /** @example 0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f */
            bind?: string;
            /** @description the only accounts whose tokens are accepted; always name them */
            issued_by?: string[];
        };
        ValidateResponse: {
            id: string;
            subject: string;
            purpose: string | null;
            data: {
                [key: string]: unknown;
            } | null;
            issued_by: string;
            /** @description the creator's key */
            issued_with: string | null;
            /** Format: date-time */
            created_at: string;
            /** @example Token válido: queda utilizado. */
            readonly message: string;
            /**
             * @description by default true
             * @example true
             */
            valid: boolean;
            /** Format: date-time */
            consumed_at: string;
            /** @description the caller's key */
            consumed_with: string | null;
            /** @description the response to an earlier call */
            replayed: boolean;
        } & {
            [key: string]: unknown;
        };
        IntrospectRequest: {
            /** @example ott_0042… */
            token: string;
            /** @description the only accounts whose tokens are accepted; always name them */
            issued_by?: string[];
        };
        IntrospectResponse: {
            active: boolean;
            id?: string;
            state?: string;
            /** @description seconds left */
            expires_in?: number;
            /** Format: date-time */
            expires_at?: string;
            /** Format: date-time */
            created_at?: string;
            purpose?: string | null;
            audience?: string[] | null;
            subject?: string;
            issued_by?: string;
            /** @description the creator's key */
            issued_with?: string | null;
            /** @description it approves one action only */
            bound?: boolean;
        } & {
            [key: string]: unknown;
        };
        ReceiptResponse: {
            id: string;
            /** @enum {string} */
            state: "active" | "reserved" | "consumed" | "revoked" | "expired" | "lost";
            purpose: string | null;
            subject: string;
            /** Format: date-time */
            created_at: string;
            /** Format: date-time */
            expires_at: string;
            /** Format: date-time */
            consumed_at: string | null;
            consumed_by: string | null;
            /** @description the creator's key */
            issued_with: string | null;
            /** @description the consumer's key */
            consumed_with: string | null;
            /** @description how often it was presented again */
            replays: number;
        } & {
            [key: string]: unknown;
        };
        ListResponse: {
            items: components["schemas"]["ReceiptResponse"][];
            /** @description null at the end */
            next_cursor: string | null;
        } & {
            [key: string]: unknown;
        };
        TokenRequest: {
            /** @example ott_0042… */
            token: string;
        };
        RevokeAllRequest: {
            /** @example ws.connect */
            purpose?: string;
            /** @example order 7 */
            subject?: string;
        };
        ReserveRequest: {
            /** @example ott_0042… */
            token: string;
            /** @example ws.connect */
            purpose?: string;
            /** @example order 7 */
            subject?: string;
            /** @example 0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f */
            bind?: string;
            /** @description the only accounts whose tokens are accepted; always name them */
            issued_by?: string[];
            /**
             * @description how long it is held; by default 30
             * @example 30
             */
            lease_seconds?: number;
        };
        ReserveResponse: {
            id: string;
            subject: string;
            purpose: string | null;
            data: {
                [key: string]: unknown;
            } | null;
            issued_by: string;
            /** @description the creator's key */
            issued_with: string | null;
            /** Format: date-time */
            created_at: string;
            /**
             * @description shown once
             * @example otr_0042…
             */
            reservation: string;
            /** Format: date-time */
            lease_expires_at: string;
        } & {
            [key: string]: unknown;
        };
        ReservationRequest: {
            /** @example otr_0042… */
            reservation: string;
        };
        HealthResponse: {
            /** @enum {string} */
            status: "alive";
        } & {
            [key: string]: unknown;
        };
        ReadinessResponse: {
            /** @enum {string} */
            status: "ready";
            /** @description the state of each part, by its name */
            checks: {
                [key: string]: string;
            };
        } & {
            [key: string]: unknown;
        };
        Problem: {
            /** @example /problems/token_already_used */
            type: string;
            title: string;
            status: number;
            detail: string;
            /**
             * @description stable; clients switch on it
             * @enum {string}
             */
            code: "access_token_expired" | "access_token_invalid" | "bad_request" | "busy" | "database_unavailable" | "email_taken" | "forbidden" | "idempotency_mismatch" | "insufficient_scope" | "internal_error" | "invalid_credentials" | "key_invalid" | "lease_ended" | "method_not_allowed" | "not_authenticated" | "not_found" | "not_json" | "not_ready" | "payload_too_large" | "purpose_not_allowed" | "rate_limited" | "registration_closed" | "session_ended" | "store_unavailable" | "ticket_missing" | "token_already_used" | "token_expired" | "token_lost" | "token_malformed" | "token_mismatch" | "token_not_for_caller" | "token_reserved" | "token_revoked" | "token_unknown" | "too_many_active" | "too_many_cuts" | "too_many_keys" | "unsupported_media_type" | "validation_failed";
            request_id: string;
            /** @description of `validation_failed`: the mistakes, by field */
            errors?: {
                [key: string]: unknown;
            };
            /** @description of `not_ready` */
            checks?: {
                [key: string]: string;
            };
            /**
             * Format: date-time
             * @description of `token_already_used`
             */
            consumed_at?: string;
            /**
             * @description of `token_mismatch`
             * @enum {string}
             */
            field?: "purpose" | "subject" | "bind" | "issued_by" | "data";
            /** @description of `validation_failed` */
            max_active?: number;
        } & {
            [key: string]: unknown;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export type operations = Record<string, never>;

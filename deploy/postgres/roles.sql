-- Two roles: the owner creates and changes tables, the application reads and writes rows.
-- Run with psql, as a superuser, in the service's database; safe to run again. See ../README.md.

\getenv password db_password

DO $$ BEGIN CREATE ROLE token_service_owner; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN CREATE ROLE token_service_app; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
ALTER ROLE token_service_owner LOGIN;
ALTER ROLE token_service_app LOGIN PASSWORD :'password';

-- By default every role may connect, create temporary tables and, before Postgres 15, any others.
REVOKE ALL ON DATABASE :"DBNAME" FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT CONNECT ON DATABASE :"DBNAME" TO token_service_owner, token_service_app;
GRANT USAGE, CREATE ON SCHEMA public TO token_service_owner;
GRANT USAGE ON SCHEMA public TO token_service_app;

-- Alembic uses this table if it exists, and the application may only read it. The tables of later
-- migrations are granted by the default privileges below.
CREATE TABLE IF NOT EXISTS alembic_version (
    version_num varchar(32) CONSTRAINT alembic_version_pkc PRIMARY KEY
);
ALTER TABLE alembic_version OWNER TO token_service_owner;
ALTER TABLE IF EXISTS users OWNER TO token_service_owner;
ALTER DEFAULT PRIVILEGES FOR ROLE token_service_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE ON TABLES TO token_service_app;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO token_service_app;
REVOKE INSERT, UPDATE ON alembic_version FROM token_service_app;
-- The audit trail is append-only. Where migration 0006 comes later, it does the same.
SELECT 'REVOKE UPDATE ON audit_events FROM token_service_app'
WHERE to_regclass('audit_events') IS NOT NULL \gexec

"""The design that the service began with, written anew for comparison. Not for use.

Async throughout. The user is looked up on every call. A one-time token is a JWT whose ``jti`` is
in Redis for its life; validate reads it, then deletes it. So two callers that validate at the same
moment may both succeed. That belongs to the design, and stays.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, status
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi_limiter.depends import RateLimiter
from jose import JWTError, jwt
from passlib.context import CryptContext
from pydantic import BaseModel
from pydantic_settings import BaseSettings
from pyrate_limiter import Duration, Limiter, Rate, RedisBucket
from redis.asyncio import Redis
from sqlalchemy import String, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Settings(BaseSettings):
    secret_key: str
    database_url: str
    redis_url: str
    access_token_expire_minutes: int
    onetime_token_expire_seconds: int
    calls_per_minute: int


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "fastapi_seed_user"

    id: Mapped[int] = mapped_column(primary_key=True)
    nombre: Mapped[str]
    correo: Mapped[str] = mapped_column(String(254), unique=True)
    password_hash: Mapped[str]


class Credentials(BaseModel):
    correo: str
    password: str


class Account(Credentials):
    nombre: str


class OneTime(BaseModel):
    token: str


logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO)
log = logging.getLogger("seed")
settings = Settings()
engine = create_async_engine(
    settings.database_url.replace("postgresql:", "postgresql+asyncpg:"), pool_size=10
)
open_session = async_sessionmaker(engine, expire_on_commit=False)
redis = Redis.from_url(settings.redis_url, decode_responses=True)
passwords = CryptContext(["bcrypt"])
bearer = HTTPBearer()
limits = {name: RateLimiter(Limiter(Rate(1, Duration.MINUTE))) for name in ("create", "validate")}


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    rates = [Rate(settings.calls_per_minute, Duration.MINUTE)]
    for name, limit in limits.items():  # a bucket in Redis needs the running loop
        limit.limiter = Limiter(await RedisBucket.init(rates, redis, f"limit:{name}"))
    yield
    await redis.aclose()
    await engine.dispose()


async def session() -> AsyncIterator[AsyncSession]:
    async with open_session() as opened:
        yield opened


Session = Annotated[AsyncSession, Depends(session)]


def signed(life: timedelta, **claims: str) -> str:
    return jwt.encode({**claims, "exp": datetime.now(UTC) + life}, settings.secret_key, "HS256")


def claims_of(token: str) -> dict[str, Any]:
    try:
        return jwt.decode(token, settings.secret_key, ["HS256"])
    except JWTError:
        raise HTTPException(status.HTTP_401_UNAUTHORIZED, "Invalid token") from None


async def current_user(
    given: Annotated[HTTPAuthorizationCredentials, Depends(bearer)], database: Session
) -> User:
    correo = claims_of(given.credentials).get("sub")
    if user := await database.scalar(select(User).where(User.correo == correo)):
        return user
    raise HTTPException(status.HTTP_401_UNAUTHORIZED, "Unknown user")


Caller = Annotated[User, Depends(current_user)]
# No routers: fastapi-limiter 0.2 needs a path on each route, and an included router has none.
app = FastAPI(title="The first design", lifespan=lifespan)
app.add_middleware(CORSMiddleware, allow_origins=["https://app.example.com"])


@app.post("/auth/register", status_code=status.HTTP_201_CREATED)
async def register(account: Account, database: Session) -> dict[str, int]:
    digest = await asyncio.to_thread(passwords.hash, account.password)
    user = User(nombre=account.nombre, correo=account.correo, password_hash=digest)
    database.add(user)
    await database.commit()
    return {"id": user.id}


@app.post("/auth/login")
async def login(given: Credentials, database: Session) -> dict[str, str]:
    user = await database.scalar(select(User).where(User.correo == given.correo))
    if user and await asyncio.to_thread(passwords.verify, given.password, user.password_hash):
        life = timedelta(minutes=settings.access_token_expire_minutes)
        return {"access_token": signed(life, sub=user.correo), "token_type": "bearer"}
    raise HTTPException(status.HTTP_401_UNAUTHORIZED, "Wrong correo or password")


@app.post(
    "/token/create", status_code=status.HTTP_201_CREATED, dependencies=[Depends(limits["create"])]
)
async def create(caller: Caller) -> OneTime:
    jti = str(uuid.uuid4())
    await redis.set(jti, "valid", ex=settings.onetime_token_expire_seconds)
    log.info("One-time token created by user %s", caller.id)
    life = timedelta(seconds=settings.onetime_token_expire_seconds)
    return OneTime(token=signed(life, jti=jti))


@app.post("/token/validate", dependencies=[Depends(limits["validate"])])
async def validate(given: OneTime, caller: Caller) -> dict[str, str]:
    jti = claims_of(given.token).get("jti", "")
    if not await redis.get(jti):
        raise HTTPException(status.HTTP_401_UNAUTHORIZED, "Used or expired")
    await redis.delete(jti)
    log.info("One-time token validated by user %s", caller.id)
    return {"message": "Valid"}


@app.get("/readyz")
async def ready() -> dict[str, str]:
    return {"status": "ready"}

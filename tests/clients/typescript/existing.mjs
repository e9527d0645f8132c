// The app that a reader of the README has.
import express from "express";

export const app = express();
export const server = app.listen(0, "127.0.0.1");

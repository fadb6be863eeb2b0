import { testEcho } from "./behaviour.js";
import echo from "./echo.js";

testEcho(echo);

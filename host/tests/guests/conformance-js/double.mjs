import { drive } from "./drive.js";
import handler from "./handler.js";

await drive(handler);

// A test double of the host: handlers run in Node.js, and no server has to be started.

import "./install.js";

export { ConnectError, Host, Peer } from "./testing/host.js";

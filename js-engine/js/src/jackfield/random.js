// Math.random, which each instance seeds anew.

import { native } from "../native.js";

Math.random = native.random.number;

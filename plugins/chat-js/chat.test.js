import { testChat } from "./behaviour.js";
import chat from "./chat.js";

testChat(chat);

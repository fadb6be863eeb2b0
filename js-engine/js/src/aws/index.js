// The modules of AWS that the engine replaces.
import { builtin } from "../builtins.js";
import { clientV3 } from "./client-v3.js";
import { withEnvironment } from "./environment.js";
import { clientsV2, sdkV2 } from "./sdk-v2.js";

builtin("@aws-sdk/client-apigatewaymanagementapi", clientV3);
builtin("aws-sdk", sdkV2);
for (const [name, client] of Object.entries(clientsV2)) builtin(`aws-sdk/clients/${name}`, client);
// Not for authors: the bundler imports it.
builtin("jackfield:aws-environment", { withEnvironment });

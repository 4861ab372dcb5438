/** The standard library's texts: they lie beside the compiler, in the source tree as in the built package. */
import { fileURLToPath } from "node:url";

export const STD_FOLDER: string = fileURLToPath(new URL("../../compiler/std/", import.meta.url));

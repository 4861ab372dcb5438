/**
 * The part of the WebAssembly JavaScript interface that the engine uses. Node and browsers have it; the type libraries
 * chosen in tsconfig.json (ECMAScript and Node, no DOM) do not.
 */
declare namespace WebAssembly {
  class Memory {
    constructor(descriptor: { initial: number; maximum: number; shared: true });
    readonly buffer: SharedArrayBuffer;
  }
  class Module {
    constructor(bytes: Uint8Array);
    static exports(module: Module): readonly { readonly name: string; readonly kind: string }[];
  }
  class Instance {
    constructor(module: Module, imports: { env: { memory: Memory } });
    readonly exports: Readonly<Record<string, unknown>>;
  }
  function compile(bytes: Uint8Array): Promise<Module>;
  function validate(bytes: Uint8Array): boolean;
}

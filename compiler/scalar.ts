/** Scalar functions. One table: name, arity, value, text in WGSL, derivative. */
export type UnaryFn = "neg" | "abs" | "exp" | "log" | "sqrt" | "rsqrt" | "sin" | "cos" | "tanh" | "sigmoid" | "erf" | "floor" | "ceil";
export type BinaryFn = "add" | "sub" | "mul" | "div" | "max" | "min" | "pow";
export type CompareFn = "lt" | "le" | "eq";

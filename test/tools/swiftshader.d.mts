/** Makes SwiftShader the Vulkan driver of this process; before the first `create()` of the npm package `webgpu`. */
export declare function preloadSwiftShader(): void;

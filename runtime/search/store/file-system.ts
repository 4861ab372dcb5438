/**
 * Whether a folder lies on the disk of another machine. SQLite's log needs memory that all its processes share and locks
 * that hold, and network file systems have neither: databases there were reported locked for ever, and malformed.
 */
import { existsSync, readFileSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { dirname, resolve } from "node:path";

/** Numbers of Linux's file systems, <linux/magic.h> and those of the modules that are not in it. */
const NETWORK: ReadonlyMap<number, string> = new Map([
  [0x6969, "NFS"],
  [0x517b, "SMB"],
  [0xff534d42, "CIFS"],
  [0xfe534d42, "SMB2"],
  [0x0bd00bd0, "Lustre"],
  [0x47504653, "GPFS"],
  [0x00c36400, "Ceph"],
  [0x5346414f, "AFS"],
  [0x6b414653, "AFS"],
  [0x73757245, "Coda"],
  [0x19830326, "BeeGFS"],
  [0xaad7aaea, "PanFS"],
  [0x01161970, "GFS2"],
  [0x7461636f, "OCFS2"],
  [0x20030528, "OrangeFS"],
]);
const FUSE = 0x65735546;
/** What a program serves from a disk of this machine. */
const LOCAL_FUSE = /^(fuseblk|fuse\.(fuse-overlayfs|ntfs-3g|gocryptfs|encfs|bindfs|ext4|mergerfs|lxcfs))$/;

/** The number of the file system that `path` is on, or will be. */
export async function fileSystemOf(path: string): Promise<number> {
  let at = resolve(path);
  while (!existsSync(at) && dirname(at) !== at) at = dirname(at);
  const { type } = await statfs(at);
  // A number of 32 bits that some machines give with a sign.
  return type >>> 0;
}

/** The type of the mount that `path` is on, as the kernel calls it (`fuse.sshfs`), from the text of mountinfo. */
export function mountTypeOf(path: string, mountinfo: string): string | undefined {
  let best: { readonly point: string; readonly type: string } | undefined;
  for (const line of mountinfo.split("\n")) {
    const [before, after] = line.split(" - ");
    const point = before
      ?.split(" ")[4]
      ?.replace(/\\(\d{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)));
    const type = after?.split(" ")[0];
    if (point === undefined || type === undefined) continue;
    const holds = path === point || path.startsWith(point.endsWith("/") ? point : `${point}/`);
    if (holds && (best === undefined || point.length >= best.point.length)) best = { point, type };
  }
  return best?.type;
}

function ownMounts(): string {
  try {
    return readFileSync("/proc/self/mountinfo", "utf8");
  } catch {
    return "";
  }
}

/**
 * The name of the network file system that `path` is on; undefined: none, as far as this machine says.
 * @param type number of the file system, as `statfs` gives it
 */
export function networkFileSystem(path: string, type: number, mounts: () => string = ownMounts): string | undefined {
  if (process.platform === "win32") return /^[\\/]{2}[^\\/?.]/.test(path) ? "a share" : undefined;
  // Elsewhere the numbers mean something else on every start.
  if (process.platform !== "linux") return undefined;
  if (type !== FUSE) return NETWORK.get(type);
  const mount = mountTypeOf(resolve(path), mounts());
  if (mount !== undefined && LOCAL_FUSE.test(mount)) return undefined;
  return mount ?? "FUSE";
}

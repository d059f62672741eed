// What a process takes of memory.
import { readFile } from "node:fs/promises";

/**
 * The most address space that a process has had at a time, in bytes. What is reserved and never touched is part of it, and of no figure
 * of resident memory.
 */
export async function addressSpace(pid) {
  const text = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/^VmPeak:\s+(\d+) kB$/m.exec(text)[1]) * 1024;
}

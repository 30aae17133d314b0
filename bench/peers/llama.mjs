// Drives llama.cpp through the npm package node-llama-cpp: reads one JSON request a line from standard input
// {"prompt": tokens, "depth": tokens, "answer": tokens} and answers {"prefill_s", "decode_s"} on standard output.
// Arguments: MODEL THREADS CONTEXT [cpu]; cpu: processor time of all threads instead of elapsed time. Run it in the folder that holds node_modules.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import path from "node:path";

const [file, threads, contextSize] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const require = createRequire(path.join(process.cwd(), "x.js"));
const { getLlama } = await import(pathToFileURL(require.resolve("node-llama-cpp")).href);
const llama = await getLlama({ gpu: false, build: "never", maxThreads: threads, logLevel: "error", progressLogs: false });
const model = await llama.loadModel({ modelPath: file, gpuLayers: 0, useMmap: true });
const context = await model.createContext({ contextSize, batchSize: 512, threads, flashAttention: true, sequences: 1 });
const sequence = context.getSequence();

const countsCpu = process.argv[5] === "cpu";
function now() {
    const used = process.cpuUsage();
    return countsCpu ? (used.user + used.system) / 1000 : performance.now();
}

let state = 1n;
function ids(n) {
    const out = [];
    for (let i = 0; i < n; i++) {
        state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn;
        out.push(Number((state >> 33n) % 100000n) + 300);
    }
    return out;
}

// Milliseconds until a token is drawn after tokens, then for each of n more, each fed back.
async function run(tokens, n) {
    let prefill = 0, from = now();
    const start = from;
    let made = 0, last = 0;
    for await (const token of sequence.evaluate(tokens, { temperature: 0, yieldEogToken: true })) {
        void token;
        if (made === 0) { prefill = now() - start; from = now(); }
        made++;
        last = now();
        if (made > n) break;
    }
    return { prefill, decode: last - from };
}

console.log(JSON.stringify({ ready: true, version: llama.llamaCppRelease?.release, info: llama.systemInfo }));
for await (const line of createInterface({ input: process.stdin })) {
    const r = JSON.parse(line);
    await sequence.clearHistory();
    if (r.depth) await sequence.evaluateWithoutGeneratingNewTokens(ids(r.depth));
    const { prefill, decode } = await run(ids(Math.max(r.prompt, 1)), r.answer);
    console.log(JSON.stringify({ prefill_s: prefill / 1000, decode_s: decode / 1000 }));
}
process.exit(0);

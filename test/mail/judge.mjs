// Shared by the checkers. Each checker must first find the faults that it plants in copies of a sample,
// which proves that it runs. Then it looks for faults in every sample.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

// The samples of a kind: [{ name, content }]. Throws if one is missing.
export function samples(folder, ending) {
    const names = (of) =>
        readdirSync(folder)
            .filter((file) => file.endsWith(of))
            .map((file) => file.slice(0, -of.length));
    const found = names(ending);
    const missing = ['.html', '.txt', '.slack.json']
        .flatMap(names)
        .filter((name) => !found.includes(name));
    if (found.length === 0) throw new Error(`no sample ends in ${ending}`);
    if (missing.length > 0) throw new Error(`no ${missing[0]}${ending} among the samples`);
    return found.map((name) => ({ name, content: readFileSync(join(folder, name + ending), 'utf8') }));
}

// The sample that the documents show. The checkers break copies of it.
export const shown = (all) => all.find(({ name }) => name === 'nightly');

// `faults_of` maps a sample to a list of sentences. Sets a failing exit code unless it finds nothing in the
// samples, and finds in each broken copy the fault that `breakages` ({ fault: [from, to] }) planted.
export async function judge(what, all, breakages, faults_of) {
    let broken = 0;
    let found = 0;
    for (const [fault, [from, to]] of Object.entries(breakages)) {
        const content = shown(all).content.replace(from, to);
        if (content === shown(all).content) throw new Error(`no place for "${fault}"`);
        ++broken;
        const faults = await faults_of({ name: 'broken on purpose', content });
        if (faults.some((sentence) => sentence.includes(fault))) ++found;
        else console.log(`  planted but not found: ${fault}${faults.map((f) => `\n    but: ${f}`)}`);
    }
    let bad = 0;
    for (const sample of all)
        for (const fault of new Set(await faults_of(sample))) {
            ++bad;
            console.log(`  ${sample.name}: ${fault}`);
        }
    console.log(`${what}: ${all.length} samples, ${bad} faults; ` +
        `${found} of ${broken} planted faults found`);
    if (bad > 0 || broken === 0 || found < broken) process.exitCode = 1;
}

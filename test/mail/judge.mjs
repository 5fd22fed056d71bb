// What the checkers share. Each looks for faults in every sample, after it has found the ones that
// were put into copies of a sample: a check that finds nothing there has not run.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

// The samples of a kind: [{ name, content }]. Throws where one is missing.
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

// The sample that is broken on purpose, and shown in the documents.
export const shown = (all) => all.find(({ name }) => name === 'nightly');

// Exits with a failure unless `faults_of` (a sample -> a list of sentences) finds nothing in the
// samples, and in each broken copy what `breakages` ({ fault: [from, to] }) put there.
export async function judge(what, all, breakages, faults_of) {
    let broken = 0;
    let found = 0;
    for (const [fault, [from, to]] of Object.entries(breakages)) {
        const content = shown(all).content.replace(from, to);
        if (content === shown(all).content) throw new Error(`no place for "${fault}"`);
        ++broken;
        const faults = await faults_of({ name: 'broken on purpose', content });
        if (faults.some((sentence) => sentence.includes(fault))) ++found;
        else console.log(`  not found where it was put: ${fault}${faults.map((f) => `\n    but: ${f}`)}`);
    }
    let bad = 0;
    for (const sample of all)
        for (const fault of new Set(await faults_of(sample))) {
            ++bad;
            console.log(`  ${sample.name}: ${fault}`);
        }
    console.log(`${what}: ${all.length} samples, ${bad} faults; ` +
        `${found} of ${broken} faults found that were put there`);
    if (bad > 0 || broken === 0 || found < broken) process.exitCode = 1;
}

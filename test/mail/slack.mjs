// slack.mjs FOLDER: checks each message against Slack's own types by the TypeScript compiler. The types do
// not limit lengths; the stand-in for Slack in the tests does.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { judge, samples } from './judge.mjs';

const here = import.meta.dirname;
const prelude = `import type { KnownBlock } from '@slack/types';
interface Message {
    text: string;
    blocks: KnownBlock[];
    mrkdwn?: boolean;
    unfurl_links?: boolean;
    unfurl_media?: boolean;
}
`;

const folder = mkdtempSync(join(tmpdir(), 'slack.'));
symlinkSync(join(here, 'node_modules'), join(folder, 'node_modules'));

const options = '--noEmit --strict --skipLibCheck --module nodenext --target es2022'.split(' ');

function faults_of({ name, content }) {
    const file = `${name.replaceAll(' ', '_')}.ts`;
    writeFileSync(join(folder, file),
        `${prelude}export const message: Message = ${JSON.stringify(JSON.parse(content))};\n`);
    const run = spawnSync('tsc', [...options, file], { cwd: folder, encoding: 'utf8' });
    if (run.error) throw run.error;
    const faults = run.stdout.split('\n').filter((line) => line.includes(': error TS'));
    if ((run.status === 0) !== (faults.length === 0) || run.stderr !== '')
        throw new Error(`tsc ended with ${run.status}: ${run.stdout}${run.stderr}`);
    return faults;
}

const breakages = {
    "'\"headr\"' is not assignable": ['"type":"header"', '"type":"headr"'],
    "'\"emojy\"' does not exist": ['"emoji":', '"emojy":'],
    "'\"mrkdwn\"' is not assignable": ['"type":"plain_text"', '"type":"mrkdwn"'],
    "Property 'text' is missing": [/^\{"text":"[^"]*",/, '{'],
    "'number' is not assignable": ['"bold":true', '"bold":1'],
};

await judge('Slack', samples(process.argv[2], '.slack.json'), breakages, faults_of);

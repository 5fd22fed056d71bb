// text.mjs FOLDER: checks that the plain text of each sample is readable.

import { judge, samples } from './judge.mjs';

const max_columns = 78; // RFC 5322

// Links are never wrapped: a broken link leads nowhere.
const is_link = (line) => /^ *https:\/\/\S+$/.test(line);

const wide = /[\u1100-\u115F\u2E80-\uA4CF\uAC00-\uD7A3\uF900-\uFAFF\uFE30-\uFE6F\uFF00-\uFF60]/u;
const takes_two = (character) => wide.test(character) || /\p{Emoji_Presentation}/u.test(character);
const columns = (line) =>
    [...line.replace(/\p{M}/gu, '')].reduce((sum, each) => sum + (takes_two(each) ? 2 : 1), 0);

function faults_of({ name, content }) {
    const faults = [];
    const lines = content.split('\n');
    lines.forEach((line, index) => {
        const fault = (sentence) => faults.push(`line ${index + 1}: ${sentence}: ${line}`);
        if (columns(line) > max_columns && !is_link(line)) fault(`${columns(line)} columns`);
        if (/\p{Cc}|[\u202A-\u202E\u2066-\u2069]/u.test(line)) fault('a control character');
        if (/\s$/.test(line)) fault('a space at its end');
        // The jobs of the sample `hostile` wrote markup themselves. It stays.
        if (name !== 'hostile' && /<\/?[a-z!][^>]*>|&(#\w+|\w+);/i.test(line)) fault('markup');
        if (name !== 'hostile' && /\{\{|\}\}/.test(line)) fault('a template');
    });
    if (!content.endsWith('\n') || content.endsWith('\n\n')) faults.push('no proper end');
    return faults;
}

const breakages = {
    '79 columns': ['\n', `\n${'x'.repeat(79)}\n`],
    '80 columns': ['\n', `\n${'接'.repeat(40)}\n`],
    'a control character': ['\n', '\n\u202Ex\n'],
    'a space at its end': ['\n', ' \n'],
    'markup: <br>': ['\n', '\n<br>\n'],
    'markup: a &amp; b': ['\n', '\na &amp; b\n'],
    'a template': ['\n', '\n{{headline}}\n'],
    'no proper end': [/\n$/, ''],
};

await judge('Text', samples(process.argv[2], '.txt'), breakages, faults_of);

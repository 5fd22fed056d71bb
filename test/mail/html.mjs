// html.mjs FOLDER: checks the HTML of each sample by html-validate and caniemail, and its elements and
// attributes by a list.

import { caniemail, groupIssues } from 'caniemail';
import { HtmlValidate, StaticConfigLoader } from 'html-validate';
import { Parser } from 'htmlparser2';
import { judge, samples } from './judge.mjs';

const max_bytes = 80 * 1000; // as src/core/render.hpp says; Gmail clips at about 102 kB

// The disabled rules are for web pages, which can rely on style sheets.
const validator = new HtmlValidate(new StaticConfigLoader({
    root: true,
    extends: ['html-validate:recommended', 'html-validate:document'],
    rules: {
        'no-inline-style': 'off', // Gmail drops style sheets
        'no-deprecated-attr': 'off', // Outlook's tables need them; see `attributes` below
        'prefer-tbody': 'off', // 16 bytes in each table, and no client needs it
        'long-title': 'off', // the title is the subject, which lists the failed jobs
    },
}));

async function validation_faults({ content }) {
    const report = await validator.validateString(content);
    return report.results.flatMap(({ messages }) =>
        messages.map(({ ruleId, message, line }) => `html-validate, line ${line}: ${ruleId}: ${message}`));
}

const clients = ['gmail.*', 'outlook.*', 'apple-mail.*'];

// Features that some of these clients lack, or support in part, with the reason why the mail stays
// readable. Any other one is a fault.
const accepted = {
    '<body> element': 'becomes a <div>: it carries nothing but margin and padding of 0',
    'align attribute': 'Outlook for Mac: not on tables; ours is on a cell',
    'dir attribute': 'buggy on links, and with right-to-left text in Gmail on the mobile web and in ' +
        'Outlook 2007; without it the count would appear inside such a name everywhere',
    'display': 'the unsupported values are features of their own; ours is none',
    'display:none': 'the preview line: elsewhere max-height and mso-hide hide it; at worst it shows twice',
    'font-size': 'rem and percentages are unsupported; ours are px',
    'font-weight': 'numbers are unsupported; ours is bold',
    'height property': 'caniemail confuses it with line-height and max-height',
    'line-height': 'px are inexact in Outlook for Windows: lines stand closer or wider',
    'margin': 'negative and auto are unsupported; ours is 0, on the body',
    'max-width': 'on tables not in Apple Mail on iOS: the mail is as wide as the screen',
    'overflow': 'it only hides the preview line; display:none hides that, too',
    'padding': 'unsupported outside cells; ours is in cells',
    'role attribute': 'Windows Mail: a screen reader may announce a table',
    'text-align': 'start and end are unsupported; ours is left',
    'white-space': 'spaces of an error collapse; its lines end with <br>',
    'width attribute': 'buggy on images; there are none',
    'width property': 'caniemail confuses it with max-width',
    'word-break': 'Outlook breaks only between words, or anywhere',
};

function support_faults({ content }) {
    const { issues } = caniemail({ clients, html: content });
    return [...groupIssues(issues.errors), ...groupIssues(issues.warnings)]
        .filter(({ issue }) => !(issue.title in accepted))
        .map(({ issue, clients }) =>
            `caniemail: support of ${issue.title} is ${issue.support} in ${clients.join(', ')}`);
}

// All elements and attributes of a mail. None loads, runs or moves anything.
const elements = 'html head meta title body div table tr td b span br a'.split(' ');
const attributes = ('lang dir charset name content style role width cellpadding cellspacing border ' +
    'align href').split(' ');
const link = /^https:\/\/admin\.example\.com\/jobs\//; // the beginning of the samples' job_url

function content_faults({ content }) {
    const faults = [];
    const size = Buffer.byteLength(content);
    if (size > max_bytes) faults.push(`${size} bytes are more than ${max_bytes}`);
    const parser = new Parser({
        onopentag(name, values) {
            if (!elements.includes(name)) faults.push(`element <${name}>`);
            for (const [attribute, value] of Object.entries(values)) {
                if (!attributes.includes(attribute)) faults.push(`attribute ${attribute}`);
                if (attribute === 'style' && /url\s*\(|@import|expression\s*\(/i.test(value))
                    faults.push(`a resource in a style: ${value}`);
                if (attribute === 'style' && /padding/.test(value) && !['td', 'body'].includes(name))
                    faults.push(`padding outside of cells, in <${name}>`);
                if (attribute === 'href' && !(name === 'a' && link.test(value)))
                    faults.push(`a foreign link: ${value}`);
            }
        },
    });
    parser.end(content);
    return faults;
}

const breakages = {
    'html-validate, line': ['</tr>', ''],
    'element-permitted-content': ['</body>', '<span><div>x</div></span></body>'],
    'support of display:flex': ['<td style="', '<td style="display:flex;'],
    'support of position': ['<td style="', '<td style="position:fixed;'],
    'support of border-radius': ['<td style="', '<td style="border-radius:4px;'],
    'support of <form>': ['</body>', '<form action="x"></form></body>'],
    'element <script>': ['</body>', '<script>alert(1)</script></body>'],
    'element <img>': ['</body>', '<img alt="x" src="https://admin.example.com/jobs/1.png"></body>'],
    'element <style>': ['</head>', '<style>b { color: red }</style></head>'],
    'attribute onclick': ['<td ', '<td onclick="x()" '],
    'a resource in a style': ['<td style="', '<td style="background:url(x);'],
    'padding outside': ['<span style="', '<span style="padding:1px;'],
    'a foreign link': ['href="https://admin.example.com', 'href="https://evil.example.com'],
    'bytes are more than': ['</body>', `${'x'.repeat(max_bytes)}</body>`],
};

await judge('HTML', samples(process.argv[2], '.html'), breakages, async (sample) => [
    ...(await validation_faults(sample)),
    ...support_faults(sample),
    ...content_faults(sample),
]);

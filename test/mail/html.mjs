// html.mjs FOLDER: what html-validate and caniemail say of the HTML of each sample, and what a mail
// may consist of besides.

import { caniemail, groupIssues } from 'caniemail';
import { HtmlValidate, StaticConfigLoader } from 'html-validate';
import { Parser } from 'htmlparser2';
import { judge, samples } from './judge.mjs';

const most_bytes = 80 * 1000; // as src/core/render.hpp says; Gmail clips at about 102 kB

// Rules that are for pages of the web, where style sheets can be counted on.
const validator = new HtmlValidate(new StaticConfigLoader({
    root: true,
    extends: ['html-validate:recommended', 'html-validate:document'],
    rules: {
        'no-inline-style': 'off', // Gmail drops style sheets
        'no-deprecated-attr': 'off', // Outlook's tables need them; `attributes` below has the list
        'prefer-tbody': 'off', // 16 bytes in each table, and no client needs it
        'long-title': 'off', // the title is the subject, which says what failed
    },
}));

async function validation_faults({ content }) {
    const report = await validator.validateString(content);
    return report.results.flatMap(({ messages }) =>
        messages.map(({ ruleId, message, line }) => `html-validate, line ${line}: ${ruleId}: ${message}`));
}

const clients = ['gmail.*', 'outlook.*', 'apple-mail.*'];

// What some of these clients do not support, or in part, and why the mail is readable all the same.
// Anything else is a fault.
const accepted = {
    '<body> element': 'becomes a <div>: it carries nothing but margin and padding of 0',
    'align attribute': 'Outlook for Mac: not on tables; ours is on a cell',
    'dir attribute': 'buggy on links, and with right-to-left text in Gmail on the mobile web and in ' +
        'Outlook 2007; without it the count would stand in the midst of such a name everywhere',
    'display': 'the values that are lacking have features of their own; ours is none',
    'display:none': 'the preview line: max-height and mso-hide hide it where this does not; at worst ' +
        'it is read twice',
    'font-size': 'rem and percentages are lacking; ours are px',
    'font-weight': 'numbers are lacking; ours is bold',
    'height property': 'caniemail takes line-height and max-height for it; neither needs it',
    'line-height': 'px are inexact in Outlook for Windows: lines stand closer or wider',
    'margin': 'negative and auto are lacking; ours is 0, on the body',
    'max-width': 'on tables not in Apple Mail on iOS: the mail is as wide as the screen',
    'overflow': 'only hides the preview line, which display:none hides too',
    'padding': 'lacking but in cells; ours is in cells',
    'role attribute': 'Windows Mail: a screen reader may announce a table',
    'text-align': 'start and end are lacking; ours is left',
    'white-space': 'spaces of an error run together; its lines end with <br>',
    'width attribute': 'buggy on images; there are none',
    'width property': 'caniemail takes max-width for it',
    'word-break': 'Outlook breaks between words only, or anywhere',
};

function support_faults({ content }) {
    const { issues } = caniemail({ clients, html: content });
    return [...groupIssues(issues.errors), ...groupIssues(issues.warnings)]
        .filter(({ issue }) => !(issue.title in accepted))
        .map(({ issue, clients }) =>
            `caniemail: support of ${issue.title} is ${issue.support} in ${clients.join(', ')}`);
}

// All elements and attributes that a mail has: none that loads, runs, or moves anything.
const elements = 'html head meta title body div table tr td b span br a'.split(' ');
const attributes = ('lang dir charset name content style role width cellpadding cellspacing border ' +
    'align href').split(' ');
const link = /^https:\/\/admin\.example\.com\/jobs\//; // what the samples' job_url begins with

function content_faults({ content }) {
    const faults = [];
    const size = Buffer.byteLength(content);
    if (size > most_bytes) faults.push(`${size} bytes are more than ${most_bytes}`);
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
                    faults.push(`a link to elsewhere: ${value}`);
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
    'a link to elsewhere': ['href="https://admin.example.com', 'href="https://evil.example.com'],
    'bytes are more than': ['</body>', `${'x'.repeat(most_bytes)}</body>`],
};

await judge('HTML', samples(process.argv[2], '.html'), breakages, async (sample) => [
    ...(await validation_faults(sample)),
    ...support_faults(sample),
    ...content_faults(sample),
]);

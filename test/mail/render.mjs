// render.mjs FOLDER PICTURES: checks that each sample is readable in Chromium, on a phone and on a desktop,
// in light and dark mode. Writes the screenshots to PICTURES, as NAME-SCREEN-SCHEME.png.

import { join } from 'node:path';
import puppeteer from 'puppeteer-core';
import { judge, samples } from './judge.mjs';

const screens = {
    phone: { width: 390, height: 844, deviceScaleFactor: 2, isMobile: true, hasTouch: true },
    desktop: { width: 1000, height: 700, deviceScaleFactor: 1 },
};
const schemes = ['light', 'dark'];

// The mail has one colour for both schemes, because few clients know both. No colour has a contrast above
// 4.33 both on white and on Chromium's dark grey.
const min_contrast = 4;

const [folder, pictures] = process.argv.slice(2);
const browser = await puppeteer.launch({
    executablePath: '/usr/bin/chromium',
    // The sandbox needs rights that an ordinary user in a container lacks. The samples are our own, and
    // load nothing.
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--hide-scrollbars', '--force-color-profile=srgb'],
});

// Runs in the page. Returns the unreadable parts, as sentences.
function faults_of_page(min_contrast) {
    const faults = [];
    const root = document.documentElement;
    if (root.scrollWidth > root.clientWidth)
        faults.push(`wider than the screen: ${root.scrollWidth} of ${root.clientWidth} pixels`);

    const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
    const luminance = (colour) => {
        const [r, g, b] = channels(colour).map((value) => value / 255)
            .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const contrast = (one, other) => {
        const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    };
    const canvas = document.createElement('div');
    canvas.style.backgroundColor = 'Canvas';
    root.append(canvas);
    const page_background = getComputedStyle(canvas).backgroundColor;
    canvas.remove();
    const background = (element) => {
        for (; element; element = element.parentElement) {
            const colour = getComputedStyle(element).backgroundColor;
            if (channels(colour)[3] !== 0) return colour;
        }
        return page_background;
    };

    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let shown = 0;
    const seen = new Set();
    while (texts.nextNode()) {
        const text = texts.currentNode.data.trim();
        const element = texts.currentNode.parentElement;
        if (text === '' || !element.checkVisibility()) continue;
        shown += text.length;
        const { color, fontSize } = getComputedStyle(element);
        const ratio = contrast(color, background(element));
        const pair = `${color} on ${background(element)}`;
        if (ratio < min_contrast && !seen.has(pair))
            faults.push(`contrast ${ratio.toFixed(2)}, ${pair}: ${text.slice(0, 40)}`);
        seen.add(pair);
        if (parseFloat(fontSize) < 12) faults.push(`${fontSize} is small: ${text.slice(0, 40)}`);
    }
    // The text after a name must appear after it, even if the name is written from right to left.
    for (const second of document.querySelectorAll('b + b'))
        for (const name of second.previousElementSibling.getClientRects())
            for (const next of second.getClientRects())
                if (next.top < name.bottom && name.top < next.bottom && next.left < name.right - 1)
                    faults.push(`appears inside the preceding name: ${second.textContent}`);
    if (shown === 0) faults.push('nothing to see');
    return faults;
}

async function faults_on({ name, content }, screen, scheme) {
    const page = await browser.newPage();
    try {
        const faults = [];
        await page.setRequestInterception(true);
        page.on('request', (request) => {
            faults.push(`loads ${request.url()}`);
            request.abort();
        });
        await page.setViewport(screens[screen]);
        await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
        await page.setContent(content);
        faults.push(...(await page.evaluate(faults_of_page, min_contrast)));
        if (name !== 'broken on purpose')
            await page.screenshot({ path: join(pictures, `${name}-${screen}-${scheme}.png`), fullPage: true });
        return faults.map((fault) => `${screen}, ${scheme}: ${fault}`);
    } finally {
        await page.close();
    }
}

async function faults_of(sample) {
    const faults = [];
    for (const screen of Object.keys(screens))
        for (const scheme of schemes) faults.push(...(await faults_on(sample, screen, scheme)));
    return faults;
}

const breakages = {
    'phone, dark: wider': ['</body>', '<div style="width:400px">x</div></body>'],
    'desktop, light: wider': ['</body>', '<div style="width:1010px">x</div></body>'],
    'light: contrast 1.': ['<td style="', '<td style="color:#eee;'],
    'dark: contrast 1.': ['<td style="', '<td style="color:#222;'],
    'on rgb(192, 192, 192)': ['<td style="', '<td style="background-color:#c0c0c0;'],
    'appears inside': [/<b dir="auto"([^>]*)>[^<]*/, '<b$1>step 4 \u05E0\u05DB\u05E9\u05DC (404)'],
    '9px is small': ['font-size:13px', 'font-size:9px'],
    'loads https://': ['</body>', '<img src="https://admin.example.com/x.png"></body>'],
    'nothing to see': ['<body style="', '<body style="display:none;'],
};

try {
    await judge('Chromium', samples(folder, '.html'), breakages, faults_of);
} finally {
    await browser.close();
}

#!/bin/sh
# Rebuilds ../echarts.custom.min.js from the versions pinned in package.json; needs node and npm.
cd "$(dirname "$0")" && npm install --no-package-lock --no-audit --no-fund && npm run build && rm -rf node_modules

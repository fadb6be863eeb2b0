module.exports = require("../process.js").process;

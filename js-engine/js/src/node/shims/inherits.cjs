module.exports = require("../util.js").inherits;

module.exports = require("../buffer.js").buffer;

module.exports = require("../util.js").util;

module.exports = require("../querystring.js").querystring;

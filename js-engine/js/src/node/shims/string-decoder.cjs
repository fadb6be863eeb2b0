module.exports = require("../string-decoder.js").stringDecoder;

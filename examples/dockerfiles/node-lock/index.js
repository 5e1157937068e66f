const isNumber = require("is-number");

console.log(["1", "one"].map((text) => `${text}: ${isNumber(text)}`).join(", "));

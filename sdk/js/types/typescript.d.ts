// Lets versions of Node.js before 22.18 import files in TypeScript: `import "jackfield/typescript";`
export {};

declarations = [defimport: 1, defimport: 2, defimport: 3]

[
  inputs: ["{mix,.formatter}.exs", "{bench,config,examples,lib,test}/**/*.{ex,exs}"],
  locals_without_parens: declarations,
  export: [locals_without_parens: declarations]
]

defmodule Cybernetic.WASM.MixProject do
  use Mix.Project

  # The same as in Cargo.toml.
  @version "0.1.0"

  def project do
    [
      app: :cybernetic_wasm,
      name: "Cybernetic.WASM",
      version: @version,
      description: "Runs untrusted WebAssembly inside an Elixir application, within limits",
      # Needs OTP 25 or newer.
      elixir: ">= 1.14.0",
      elixirc_paths: elixirc_paths(Mix.env()),
      # The cargo compiler is a module of this project, so it runs after the Elixir compiler has
      # built it. Nothing may load the NIF while the project compiles: its library comes last.
      compilers: Mix.compilers() ++ [:cybernetic_wasm],
      start_permanent: Mix.env() == :prod,
      test_coverage: [ignore_modules: [Cybernetic.WASM.Native]],
      package: package(),
      docs: docs(),
      deps: []
    ]
  end

  def application do
    [
      mod: {Cybernetic.WASM.Application, []},
      extra_applications: [:logger, :crypto, :public_key, :ssl, mnesia: :optional]
    ]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_), do: ["lib"]

  defp package do
    [
      licenses: ["Apache-2.0"],
      # The library is built from source on the machine that uses it.
      files: ~w(
        lib native/*/Cargo.toml native/*/build.rs native/*/src Cargo.toml Cargo.lock
        rust-toolchain.toml priv/wasm guides bench/README.md mix.exs .formatter.exs
        README.md CHANGELOG.md LICENSE
      )
    ]
  end

  defp docs do
    [
      main: "Cybernetic.WASM",
      extras:
        ["CHANGELOG.md", {"bench/README.md", filename: "bench", title: "The bench"}] ++
          Path.wildcard("guides/*.md")
    ]
  end
end

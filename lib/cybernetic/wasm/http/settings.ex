defmodule Cybernetic.WASM.HTTP.Settings do
  @moduledoc false
  # What a request may reach and take: the options of `Cybernetic.WASM.HTTP.Client`, checked.

  alias Cybernetic.WASM.{Deadline, Options, Sandbox}
  alias Cybernetic.WASM.Host.Context
  alias Cybernetic.WASM.Sandbox.Capabilities.Network
  alias Cybernetic.WASM.Sandbox.Capability

  @tls [cacerts: {"a list of certificates in DER", &is_list/1}, cacertfile: :path]

  @options [
    network:
      {~S|:public, a list of rules such as ["example.com:443"], a sandbox, or the context of a host function|,
       &__MODULE__.network?/1},
    allow_http: :boolean,
    timeout: {:milliseconds, 0},
    deadline: {"monotonic milliseconds, or :infinity", &__MODULE__.deadline?/1},
    connect_timeout: {:milliseconds, 1},
    max_body: :positive,
    max_header_bytes: {:bytes, 1_000..10_000_000},
    max_headers: {:bytes, 1..10_000},
    redirect: :boolean,
    max_redirects: :count,
    tls: {"a keyword list", &Keyword.keyword?/1}
  ]

  # Every public address, by any name. It is a struct as it stands here, since rules are read by Rust, and this is compiled
  # before that.
  @public %Network{lists: [["0.0.0.0/0:*", "[::]/0:*"]], dns: true}

  defstruct network: @public,
            allow_http: false,
            deadline: :infinity,
            connect_timeout: 10_000,
            max_body: 10_000_000,
            max_header_bytes: 65_536,
            max_headers: 100,
            redirect: true,
            max_redirects: 5,
            tls: []

  @type t :: %__MODULE__{}

  @timeout 30_000

  @doc "Checks the options of a request."
  @spec new!(keyword) :: t
  def new!(opts) do
    {timing, opts} =
      opts |> Options.check!(@options, "HTTP option") |> Map.split([:timeout, :deadline])

    settings = struct!(%__MODULE__{deadline: deadline(timing)}, opts)
    tls = settings.tls |> Options.check!(@tls, "TLS option") |> Map.to_list()
    %{settings | network: network(settings.network), tls: tls}
  end

  defp deadline(%{timeout: timeout, deadline: deadline}),
    do: timeout |> Deadline.in_ms() |> Deadline.earlier(deadline)

  defp deadline(%{deadline: deadline}), do: deadline
  defp deadline(timing), do: timing |> Map.get(:timeout, @timeout) |> Deadline.in_ms()

  @doc false
  @spec network?(term) :: boolean
  def network?(given),
    do:
      given == :public or is_list(given) or is_struct(given, Network) or is_struct(given, Sandbox) or
        is_struct(given, Context)

  @doc false
  @spec deadline?(term) :: boolean
  def deadline?(given), do: is_integer(given) or given == :infinity

  defp network(:public), do: @public
  defp network(rules) when is_list(rules), do: Capability.grant!(Network, rules)
  defp network(granted), do: granted
end

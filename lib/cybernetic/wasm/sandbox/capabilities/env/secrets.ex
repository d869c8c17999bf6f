defmodule Cybernetic.WASM.Sandbox.Capabilities.Env.Secrets do
  @moduledoc false
  # Tells whether a variable's name looks like a secret's. The documentation of `Env` has the words, and a test holds it to these
  # lists.

  @words ~w(AUTH AUTHORIZATION BEARER COOKIE COOKIES CREDS DSN JWT PAT PRIVATE PWD SALT SESSION)
  @endings for word <- ~w(CREDENTIAL KEY PASS PASSPHRASE PASSWD PASSWORD SECRET TOKEN),
               plural <- ["", "S"],
               do: word <> plural
  @names ~w(AMQP_URL DATABASE_URI DATABASE_URL DB_URI DB_URL ELIXIR_ERL_OPTIONS ERL_FLAGS HTTPS_PROXY
            HTTP_PROXY MONGODB_URI MONGODB_URL MONGO_URI MONGO_URL MYSQL_URL PGPASSFILE POSTGRESQL_URL
            POSTGRES_URL RABBITMQ_URL REDISCLOUD_URL REDIS_URL WEBHOOK_URL)
  # The shell's directories.
  @harmless ~w(PWD OLDPWD)

  @doc "Whether a variable of this name is taken for a secret."
  @spec name?(String.t()) :: boolean
  def name?(name) do
    name = String.upcase(name)
    name not in @harmless and (String.contains?(name, @names) or words?(name))
  end

  defp words?(name) do
    name
    |> String.split(~r/[^A-Z0-9]+/)
    |> Enum.map(&String.replace(&1, ~r/[0-9]+$/, ""))
    |> Enum.any?(&(&1 in @words or String.ends_with?(&1, @endings)))
  end
end

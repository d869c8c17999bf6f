defmodule Cybernetic.WASM.Security.SecretsTest do
  # A sandbox holds values of an environment, and sandboxes end up in logs, crash reports and
  # error messages. None of them may show a value; and what the VM itself has in its environment
  # reaches no guest because somebody listed one name too many.
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{Executor, Runtime, Sandbox}
  alias Cybernetic.WASM.Sandbox.Capabilities.Env

  @value "hunter2-8fd1c0"

  defp silent!(text, where) do
    refute text =~ @value, "a value is shown by #{where}: #{text}"
    text
  end

  defp sandbox, do: Sandbox.new(env: [{"API_TOKEN", @value}, {"MODE", @value}], stdio: :captured)

  test "inspecting shows names and no values" do
    for {subject, where} <- [
          {sandbox(), "a sandbox"},
          {sandbox().env, "an environment"},
          {%{nested: [sandbox()]}, "what holds a sandbox"},
          {Map.from_struct(sandbox()), "a sandbox's fields"},
          {Sandbox.narrow(sandbox(), sandbox()), "a narrowed sandbox"}
        ] do
      text = subject |> inspect(limit: :infinity, pretty: true) |> silent!(where)
      assert text =~ "API_TOKEN"
    end

    assert inspect(sandbox().env) =~ "redacted"
    assert inspect(Sandbox.new().env) == "#Cybernetic.WASM.Sandbox.Env<nothing; values redacted>"
  end

  test "inspecting what a load was asked for shows no credentials" do
    alias Cybernetic.WASM.Loader.Request

    for source <- [
          {:url, "https://example.com/x?key=#{@value}",
           headers: [{"authorization", @value}], http: [tls: [cacertfile: @value]]},
          {:oci, "example.com/x:1", username: @value, password: @value}
        ] do
      request = Request.new!(source, http: [tls: [cacertfile: @value]], name: "acme/x")
      assert request |> inspect(limit: :infinity) |> silent!("a request") =~ "acme/x"
    end

    for source <- [
          {:url, "https://example.com/x", http: @value},
          {:oci, "example.com/x:1", http: @value}
        ] do
      error = catch_error(Runtime.load_module(source, allow_unpinned: true))
      error |> Exception.message() |> silent!("the refusal of an option")
    end
  end

  test "explaining shows names and no values" do
    assert silent!(Sandbox.explain(sandbox()), "explain/1") =~ "API_TOKEN (a value)"
  end

  test "an exception that is blamed on a sandbox shows no values" do
    error = catch_error(Sandbox.narrow(sandbox(), 1))

    {error, _stack} = Exception.blame(:error, error, [{Sandbox, :narrow, [sandbox(), 1], []}])

    silent!(Exception.format(:error, error, []), "a blamed exception")

    for stack <- [[{Sandbox, :narrow, [sandbox(), 1], []}]],
        do: silent!(Exception.format_stacktrace(stack), "a stack")
  end

  test "no refusal of an option shows what was given" do
    for option <- [
          @value,
          [@value <> "=" <> @value],
          ["TOKEN=" <> @value],
          [{"TOKEN=" <> @value, "x"}],
          [{"API_TOKEN", @value <> "\0"}],
          [{"API_TOKEN", [@value]}],
          [{"API_TOKEN", String.to_atom(@value)}],
          %{"API_TOKEN" => {@value}},
          %{{"API_TOKEN"} => @value},
          [{"API_TOKEN", @value, @value}],
          [{:secret, @value <> "*"}],
          [{:secret, {@value}}],
          ["A", "A", {"B", @value}],
          [{"A", String.duplicate(@value, 20_000)}],
          [{"A", @value} | @value],
          {@value, @value}
        ] do
      error = assert_raise ArgumentError, fn -> Sandbox.new(env: option) end
      silent!(Exception.message(error), "the refusal of an option")
    end

    for opts <- [
          [{"env", %{"API_TOKEN" => @value}}],
          %{env: %{"API_TOKEN" => @value}},
          [{:env, [{"API_TOKEN", @value}]}, :wasi],
          [env: %{"API_TOKEN" => @value}, wsai: true]
        ] do
      error = assert_raise ArgumentError, fn -> Sandbox.new(opts) end
      silent!(Exception.message(error), "the refusal of a sandbox's options")
    end
  end

  test "no refusal of a call's variables shows them" do
    assert {:error, error} =
             Sandbox.native(Sandbox.new(wasi: true), %{env: %{"API_TOKEN" => @value}})

    assert silent!(Exception.message(error), "a denial") =~ "API_TOKEN"
    silent!(inspect(error), "a denial")

    assert {:error, error} = Sandbox.native(Sandbox.new(), %{env: %{"API_TOKEN" => @value}})
    silent!(Exception.message(error), "a denial of WASI")

    for env <- [
          %{"A" => @value <> "\0"},
          %{("A=" <> @value) => @value},
          %{A: {@value}},
          @value,
          [@value],
          [{"A", @value} | @value],
          {"A", @value},
          %URI{host: @value}
        ] do
      error =
        assert_raise ArgumentError, fn -> Sandbox.native(Sandbox.new(env: :any), %{env: env}) end

      silent!(Exception.message(error), "the refusal of a call's variables")
    end
  end

  test "no error shows what a guest was given, but numbers and atoms" do
    wat = ~S"""
    (module
      (import "env" "one" (func $one (result i32)))
      (import "env" "two" (func $two (result i32 i32)))
      (memory (export "memory") 1)
      (func (export "one") (result i32) (call $one))
      (func (export "two") (result i32 i32) (call $two))
      (func (export "take") (param i32)))
    """

    {:ok, module} = Runtime.load_module({:bytes, wat})
    secrets = [@value, [@value], {@value}, %{@value => @value}, [1 | @value], [@value, @value, 1]]

    for secret <- secrets do
      imports = %{"env" => %{"one" => fn _ -> secret end, "two" => fn _ -> secret end}}
      call = &Executor.call(module, &1, &2, imports: imports)

      for {:error, error} <- [call.("take", [secret]), call.("one", []), call.("two", [])] do
        silent!(Exception.message(error), "a message")
        silent!(inspect(error, limit: :infinity), "an error")
      end
    end

    for wrong <- [
          fn -> Executor.call(module, "take", [1 | @value]) end,
          fn -> Executor.call(module, @value |> String.to_charlist(), [@value]) end,
          fn -> Executor.call(module, "take", [], stdin: {@value}) end,
          fn -> Executor.call(module, "take", [], args: [@value | @value]) end,
          fn -> Executor.run(module, :start, [@value]) end,
          fn -> Runtime.load_module({:bytes, {@value}}) end
        ] do
      error = assert_raise ArgumentError, wrong
      silent!(Exception.message(error), "the refusal of an argument")
    end
  end

  test "no error shows what a guest would have read" do
    {:ok, wc} = Runtime.load_module("priv/wasm/wc.wasm")

    for piece <- [{@value}, [@value, :no], %{@value => 1}] do
      assert {:error, error} =
               Executor.run(wc, :start, stdin: Stream.map(["a", piece], & &1), sandbox: :command)

      silent!(Exception.message(error), "a message")
      silent!(inspect(error, limit: :infinity), "an error")
    end
  end

  test "a secret's seed is not shown" do
    refute inspect(Sandbox.new(random: {:seeded, 1_234_567})) =~ "1234567"
  end

  @secrets ~w(
    KEY API_KEY APIKEY api_key AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY SSH_KEYS MASTER_KEY
    SECRETKEY TOKEN TOKENS GITHUB_TOKEN GITHUBTOKEN NPM_TOKEN AWS_SESSION_TOKEN token_v2 apiToken
    SECRET SECRETS SECRET_KEY_BASE CLIENT_SECRET CLIENT-SECRET app.secret
    PASSWORD PGPASSWORD DB_PASSWORD PASSWORDS ROOT_PASSWD PASSPHRASE GPG_PASSPHRASE DB_PASS
    PWD_HASH MYSQL_PWD CREDENTIAL GOOGLE_APPLICATION_CREDENTIALS AWS_CREDS
    AUTH SSH_AUTH_SOCK AUTHORIZATION HTTP_AUTHORIZATION PRIVATE DEPLOY_PRIVATE COOKIE
    RELEASE_COOKIE COOKIES SESSION XDG_SESSION_ID DSN SENTRY_DSN
    DATABASE_URL APP_DATABASE_URL DATABASE_URI DB_URL REDIS_URL MONGODB_URI MONGO_URL AMQP_URL
    RABBITMQ_URL POSTGRES_URL POSTGRESQL_URL MYSQL_URL SLACK_WEBHOOK_URL PGPASSFILE
  )

  @others ~w(
    PWD OLDPWD HOME PATH LANG LC_ALL TZ USER SHELL TERM HOSTNAME EDITOR MIX_ENV PORT
    KEYBOARD AUTHOR TOKENIZERS_PARALLELISM PASSAGE SECRETARY PUBLIC_URL BASE_URL
    MY_URL PRIVATEER
  )

  test "a name that looks like a secret's has to be called one" do
    for name <- @secrets do
      error = assert_raise ArgumentError, fn -> Sandbox.new(env: ["LANG", name]) end
      assert error.message =~ name
      assert error.message =~ "{:secret, #{inspect(name)}}"
      assert Env.granted?(Sandbox.new(env: [{:secret, name}]).env)
    end
  end

  test "other names need no more than themselves" do
    for name <- @others, do: assert(Env.granted?(Sandbox.new(env: [name]).env), name)
  end

  test "the words that are looked for are documented" do
    {:docs_v1, _, _, _, %{"en" => doc}, _, _} = Code.fetch_docs(Env)

    documented = for [word] <- Regex.scan(~r/\b[A-Z][A-Z_]{2,}\b/, doc), uniq: true, do: word

    for word <- documented -- ~w(WASM NAME LANG MODE PWD OLDPWD),
        do: assert(Env.secret?(word), word)

    assert length(documented) > 35
  end

  test "narrowing does not turn a name into another's secret" do
    secret = Sandbox.new(env: [{:secret, "API_TOKEN"}])
    value = Sandbox.new(env: %{"API_TOKEN" => "mine"})
    assert Sandbox.narrow(secret, value).env == %Env{}
    assert Sandbox.narrow(secret, secret).env == secret.env
  end
end
